"""The outbox: order, bounds and counts; kill -9."""

import functools
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import ROOT
from link_parties import one_by_one

from edge.link.outbox import Outbox


@pytest.fixture
def make(tmp_path, said):
    with one_by_one(functools.partial(Outbox, tmp_path / "outbox.db", say=said.append)) as make:
        yield make


def taken(box: Outbox) -> list[bytes]:
    """What comes out, each taken away as if it had arrived."""
    found = []
    while message := box.first():
        found.append(message.payload)
        box.done(message)
    return found


def texts(*numbers) -> list[bytes]:
    return [b"%d" % number for number in numbers]


def fill(box: Outbox, *numbers) -> None:
    for text in texts(*numbers):
        box.put("event", text)


def test_in_order_and_until_it_is_done(make):
    box = make()
    fill(box, *range(5))
    assert box.first() == box.first() and box.first().payload == b"0"
    box.done(box.first())
    assert (box.path.stat().st_mode & 0o777) == 0o600
    box = make()
    assert taken(box) == texts(1, 2, 3, 4) and box.first() is None
    assert set(make().counts.values()) == {0}


def test_what_can_wait_goes_last(make):
    box = make()
    box.put("clip", b"a", later=True)
    fill(box, 1, 2)
    assert taken(box) == [b"1", b"2", b"a"]


def test_parts_that_have_arrived_are_remembered(make):
    box = make()
    box.put("clip", b"a", later=True)
    for part in range(3):
        assert box.first().part == part
        box.part_done(box.first())
    fill(box, 1)
    assert box.first().payload == b"1"
    box.done(box.first())
    assert make().first().part == 3


def test_bounded_in_messages(make):
    """The oldest go, and how many is known after a restart; numbers of messages never come twice."""
    box = make(most_messages=10)
    fill(box, *range(25))
    assert box.counts["dropped"] == 15 and box.counts["waiting"] == 10
    box = make(most_messages=10)
    assert box.counts["dropped"] == 15
    fill(box, 25, 26)
    assert box.counts["dropped"] == 17
    assert taken(box) == texts(*range(17, 27))


def test_bounded_in_bytes(make):
    box = make(most_bytes=1000)
    for i in range(20):
        box.put("event", b"%d" % (i % 10) * 150)
    assert box.counts["dropped"] == 14 and box.counts["waiting"] == 6
    box.put("event", b"x" * 500)
    assert box.counts["dropped"] == 17
    assert [text[:1] for text in taken(box)] == [b"7", b"8", b"9", b"x"]


def test_what_is_being_sent_is_not_dropped(make):
    """It may have arrived: who counted it as lost would count wrong."""
    box = make(most_messages=3)
    fill(box, 0, 1, 2)
    sent = box.first()
    fill(box, 3, 4)
    assert box.counts["dropped"] == 1
    box.done(sent)
    assert sent.payload == b"0" and taken(box) == texts(2, 3, 4)


def test_what_is_held_is_neither_sent_nor_dropped(make):
    box = make(most_messages=3)
    fill(box, *range(3))
    for _ in range(2):
        box.hold(box.first())
    fill(box, 3, 4, 5)
    assert box.counts["dropped"] == 1 and box.counts["waiting"] == 3 and box.first().payload == b"3"
    box.release()
    fill(box, 6, 7)
    assert box.counts["dropped"] == 2  # not 3, which may have arrived
    assert taken(box) == texts(0, 1, 3, 5, 6, 7)


@pytest.mark.slow
def test_the_file_stays_bounded(make):
    box = make(most_bytes=1 << 20)
    for _ in range(300):
        box.put("event", os.urandom(20_000))
    box.close()
    assert box.path.stat().st_size < 2 << 20


def test_other_reasons_are_counted(make):
    box = make()
    fill(box, 0, 1, 2)
    box.done(box.first(), "refused")
    box.done(box.first(), "gone")
    assert make().counts == {"waiting": 1, "unwritten": 0, "dropped": 0, "refused": 1, "gone": 1, "damaged": 0}


PUTS = """\
    import os, sys
    from edge.link.outbox import Outbox
    box = Outbox(sys.argv[1], most_messages=int(sys.argv[2]))
    for number in range(int(sys.argv[3]), 10**9):
        box.put("event", b"%d" % number)
        os.write(1, b"%d\\n" % number)
"""


@pytest.mark.slow
def test_kill_9(tmp_path):
    """Whatever `put` returned for is there, in order, and what was dropped is counted; ten times, at random moments."""
    random.seed(1)
    path, start = tmp_path / "outbox.db", 0
    for _ in range(10):
        command = [sys.executable, "-c", textwrap.dedent(PUTS), str(path), "50", str(start)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(random.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        last = int((process.stdout.read().split() or [str(start)])[-1])
        process.wait()
        process.stdout.close()
        box = Outbox(path, most_messages=50)
        kept = [int(payload) for (payload,) in box._base.execute("SELECT payload FROM messages ORDER BY id")]
        assert kept == list(range(kept[0], kept[-1] + 1))
        assert kept[-1] in (last, last + 1)  # it may have been killed before it could say so
        assert box.counts["dropped"] == kept[0] and len(kept) <= 50
        start = kept[-1] + 1
        box.close()
