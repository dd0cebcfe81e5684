"""The link with senders that fail as they like: nothing lost, nothing shown."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import pytest
from conftest import ROOT
from link_parties import Inbox, environment, links, messages, pauses, site, until
from test_event import event

from edge.errors import UserError
from edge.event import Clip
from edge.link import link as module
from edge.link.keys import decoded
from edge.link.link import Link
from edge.link.parts import read_part
from edge.link.sender import LinkError, Refused, Unheard

ADDRESS = "https://127.0.0.1:1"  # of nobody


class Sender:
    """Takes messages into an inbox, unless it is told what to raise at the next ones."""

    def __init__(self, inbox):
        self.inbox, self.fails, self.down, self.kinds, self.shown = inbox, [], None, [], {}
        self.settles, self.number, self.connected = 0, 1, 0

    def connect(self):
        if self.down:
            raise self.down
        self.connected = self.number
        return self.number

    def send(self, kind, payload):
        if self.down:
            raise self.down
        if self.connected != self.number:
            raise LinkError("the connection is gone")
        error = self.fails.pop(0) if self.fails else None
        if error:
            raise error
        self.kinds.append(kind)
        self.inbox.take(payload)

    def states(self, states):
        self.shown = states

    def close(self):
        self.kinds.append("closed")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    pauses(monkeypatch, 0.01, 0.02)


@pytest.fixture
def sender(tmp_path):
    site(tmp_path, ADDRESS)
    return Sender(Inbox(tmp_path / "server.json"))


@pytest.fixture
def make(tmp_path, sender, said):
    def make(**more) -> Link:
        made.append(Link(site(tmp_path, ADDRESS, **more), tmp_path / "clips", said.append, sender=sender))
        return made[-1]

    with links() as made:
        yield make


def test_events_arrive_as_they_were(make, sender):
    link, sent = make(), messages(7)
    for message in sent:
        link.send(message)
    assert until(lambda: len(sender.inbox.events) == 7)
    assert list(sender.inbox.events.values()) == sent
    link.close()
    assert link.counts["sent_events"] == 7 and link.counts["waiting"] == 0 and sender.kinds[-1] == "closed"


def test_failures_delay_and_lose_nothing(make, sender, said):
    sender.fails = [LinkError("a"), Unheard("a"), LinkError("a"), RuntimeError("of a library"), None, LinkError("b")]
    link = make()
    for message in messages(6):
        link.send(message)
    assert until(lambda: len(sender.inbox.events) == 6)
    link.close()
    assert sender.inbox.ids() == [message.message for message in messages(6)]
    assert [line.partition(";")[0] for line in said] == [
        "a",
        "of a library",
        "the link is up again",
        "b",
        "the link is up again",
    ]


def test_what_a_connection_may_have_lost_is_sent_again(make, sender):
    """Everything that was acknowledged on it less than `settles` ago, before anything else, in its order."""
    sender.settles = 60
    link, sent = make(), messages(9)
    for message in sent[:6]:
        link.send(message)
    assert until(lambda: len(sender.inbox.events) == 6) and until(lambda: link.counts["waiting"] == 0)
    sender.inbox.events.clear()  # the broker dies, and so does what it had
    sender.number = 2
    for message in sent[6:]:
        link.send(message)
    assert until(lambda: len(sender.inbox.events) == 9)
    assert list(sender.inbox.events.values()) == sent
    sender.settles = 0
    assert until(lambda: not link._outbox._entries)
    sender.number = 3
    link.send(event(id="last", clip=None))
    assert until(lambda: len(sender.inbox.events) == 10) and sender.inbox.twice == 0


def test_what_may_be_lost_is_bounded_and_no_reason_to_drop(make, sender):
    sender.settles = 60
    link = make(most_messages=5)
    for count, message in enumerate(messages(30), 1):
        link.send(message)
        assert until(lambda count=count: len(sender.inbox.events) == count)
    assert until(lambda: len(link._outbox._entries) == 5) and link.counts["dropped"] == 0
    sender.down = LinkError("gone")
    time.sleep(0.05)
    for message in messages(12, 30):
        link.send(message)
    assert link.counts["dropped"] in (6, 7)  # the one that is being sent may have arrived
    sender.inbox.events.clear()
    sender.down, sender.number = None, 2
    assert until(lambda: len(sender.inbox.events) == 17 - link.counts["dropped"])


def test_what_the_other_side_never_takes_is_counted(make, sender, said):
    sender.fails = [None, Refused("status 413"), None]
    link = make()
    for message in messages(3):
        link.send(message)
    assert until(lambda: link.counts["waiting"] == 0)
    assert sender.inbox.ids() == ["e0/0", "e0/2"] and link.counts["refused"] == 1 and said == ["status 413"]


def test_what_waits_is_sent_after_the_next_start(make, sender):
    sender.down = LinkError("no route")
    link = make()
    for message in messages(5):
        link.send(message)
    link.close(0)
    sender.down = None
    link = make()
    link.send(messages(1, 5)[0])
    assert until(lambda: len(sender.inbox.events) == 6)
    assert sender.inbox.ids() == [message.message for message in messages(6)]


def test_the_end_of_trouble_is_waited_for(make, sender, said):
    """What waits when the link is closed goes out if the other side is back in time."""
    sender.down = LinkError("restarts")
    link = make()
    for message in messages(3):
        link.send(message)
    assert until(lambda: said)
    threading.Timer(0.2, setattr, (sender, "down", None)).start()
    link.close()
    assert sender.inbox.ids() == [message.message for message in messages(3)]


def test_nobody_waits_for_an_attempt_that_would_come_too_late(make, sender, said, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 600)
    sender.down = LinkError("no route")
    link = make()
    link.send(messages(1)[0])
    assert until(lambda: said and link._next)
    start = time.monotonic()
    link.close(wait=60)
    assert time.monotonic() - start < 30 and link._outbox.path.exists() and not sender.inbox.events


def test_stats_are_sealed_and_not_kept(make, sender):
    sender.down = LinkError("no route")
    link = make()
    os.utime(link._outbox.path, (0, 0))
    link.stats({"fps": 1})
    assert time.time() - link._outbox.path.stat().st_mtime < 60  # by which a container is seen to be alive
    link.stats({"fps": 24.5})
    sender.down = None
    assert until(lambda: sender.inbox.other) == [("json", b'{"fps": 24.5}')]
    sender.fails = [Unheard("nobody")]
    link.stats({"fps": 3})
    assert until(lambda: not sender.fails)
    link.send(event(clip=None))
    assert until(lambda: sender.inbox.events) and len(sender.inbox.other) == 1


def test_states_of_rules(make, sender):
    """On as long as any event of the rule is open."""
    link, key = make(), ("yard", "loiter at the gate")
    link.announce([key, ("yard", "other")])
    assert until(lambda: sender.shown == {key: False, ("yard", "other"): False})
    for number, phase, state in [(1, "new", True), (2, "new", True), (1, "end", True), (2, "update", True)]:
        link.send(event(id=f"e{number}", phase=phase, clip=None))
        assert until(lambda state=state: sender.shown.get(key) is state)
    link.send(event(id="e2", phase="end", clip=None))
    assert until(lambda: sender.shown.get(key) is False)


@pytest.fixture
def clip(tmp_path):
    """An event with a clip of three parts and a picture, in the folder of clips."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/e0.avi").write_bytes(bytes(range(250)) * 500)
    (tmp_path / "clips/e0.jpg").write_bytes(b"jpeg")
    return event(id="e0", phase="end", clip=Clip("e0.avi", "ab" * 32, 125_000, 3.5, "e0.jpg"))


def test_clips_are_sent_in_parts_when_no_event_waits(make, sender, clip, tmp_path):
    sender.down = LinkError("no route")
    link = make(clips=True)
    link.send(clip)
    for message in messages(3, 3):
        link.send(message)
    sender.down = None
    sender.fails = [*[None] * 6, LinkError("lost"), None]
    assert until(lambda: link.counts["waiting"] == 0)
    assert sender.kinds == ["event"] * 4 + ["clip"] * 4 and link.counts["sent_clips"] == 2
    assert {content for content, _ in sender.inbox.other} == {"vnd.edge-vision.part"}
    read = [read_part(plain) for _, plain in sender.inbox.other]
    assert [(head["name"], head["part"], head["parts"]) for head, _ in read] == [
        ("e0.jpg", 0, 1),
        ("e0.avi", 0, 3),
        ("e0.avi", 1, 3),
        ("e0.avi", 2, 3),
    ]
    assert b"".join(data for head, data in read if head["name"] == "e0.avi") == (tmp_path / "clips/e0.avi").read_bytes()


def test_clips_stay_here_unless_the_site_says_so(make, sender, clip):
    link = make()
    link.send(clip)
    assert until(lambda: sender.inbox.events) and until(lambda: link.counts["waiting"] == 0)
    link.close()
    assert sender.kinds == ["event", "closed"]


def test_a_clip_that_was_deleted_meanwhile_is_counted(make, sender, clip, tmp_path, said):
    (tmp_path / "clips/e0.avi").unlink()
    link = make(clips=True)
    link.send(clip)
    assert until(lambda: link.counts["gone"] == 1) and until(lambda: link.counts["waiting"] == 0)
    assert said == ["e0.avi: no longer there to be sent"] and sender.kinds == ["event", "clip"]


SITE = """\
    import sys, time
    sys.path.insert(0, "tests")
    from dataclasses import replace
    from pathlib import Path
    from edge.event import from_json
    from edge.link.link import Link
    from link_parties import site
    folder = Path(sys.argv[1])
    said = []
    say = lambda line: (print(line, flush=True), said.append(line))
    link = Link(site(folder, "https://127.0.0.1:1"), say=say)
    for line in (folder / "events").read_bytes().splitlines():
        link.send(from_json(line))
    while not said:
        time.sleep(0.01)
    print(link, link._key, vars(link._outbox)["path"], link._sender, flush=True)
    print(open("/proc/self/cmdline").read(), flush=True)
    link.send(replace(from_json(line), score=float("nan")))
"""


@pytest.mark.parametrize("pair", [False, True], ids=["shared", "pair"])
def test_nothing_is_shown(tmp_path, pair):
    """No plaintext and no key in what a device prints, on its command line, or in its outbox, a traceback included."""
    site(tmp_path, ADDRESS, pair)
    (tmp_path / "events").write_bytes(b"\n".join(message.to_json() for message in messages(20)))
    command = [sys.executable, "-c", textwrap.dedent(SITE), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, timeout=60)
    assert b"data.score = nan: must be" in done.stderr and b"messages wait" in done.stdout
    files = [path for path in tmp_path.iterdir() if path.name.startswith("outbox")]
    assert "outbox.db" in {path.name for path in files}
    seen = b"".join([done.stdout, done.stderr, *(path.read_bytes() for path in files)])
    assert len(seen) > 20 * 500
    jwk = json.loads((tmp_path / "server.json").read_text())["keys"][0]
    secret = jwk["d" if pair else "k"]
    raw = decoded(secret)
    for text in (secret.encode(), raw, raw.hex().encode(), repr(raw)[2:-1].encode()):
        assert text not in seen
    for word in (b"loiter", b"yard", b"person", b"pruned", b"cloudevents+json"):
        assert word not in seen, word
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_an_event_that_no_reader_takes_goes_nowhere(make):
    link = make()
    with pytest.raises(UserError, match="score"):
        link.send(replace(event(), score=float("nan")))
    assert link.counts["waiting"] == 0


def test_many_threads(make, sender):
    link = make()
    threads = [threading.Thread(target=lambda i=i: [link.send(m) for m in messages(9, 9 * i)]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert until(lambda: len(sender.inbox.events) == 36)
    for number in range(12):
        assert [i for i in sender.inbox.ids() if i.startswith(f"e{number}/")] == [f"e{number}/{k}" for k in range(3)]
