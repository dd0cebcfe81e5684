"""Nothing is lost: brokers killed at random moments, lines cut, devices killed; each event is stored once, in order."""

import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import paho.mqtt.client as paho
import pytest
from conftest import ROOT
from link_parties import LOCAL, Broker, Consumer, Inbox, Line, environment, has_mosquitto, messages, pauses, site, until

from edge.link.link import Link

pytestmark = [
    pytest.mark.skipif(not has_mosquitto(), reason="needs mosquitto (apt-get install mosquitto)"),
    pytest.mark.slow,
]
KILLS = 50


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    pauses(monkeypatch, 0.02, 0.1)


class Source:
    """Sends events through a link from a thread of its own until it is stopped, about 300 a second."""

    def __init__(self, link: Link):
        self.link, self.sent, self._stop = link, [], threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.003):
            (message,) = messages(1, len(self.sent))
            self.link.send(message)
            self.sent.append(message.message)

    def stop(self) -> list[str]:
        self._stop.set()
        self._thread.join()
        return self.sent


def in_order(ids: list[str]) -> bool:
    """Whether the messages of each event came in its order."""
    last: dict[str, int] = {}
    for name, _, number in (i.partition("/") for i in ids):
        if last.get(name, -1) >= int(number):
            return False
        last[name] = int(number)
    return True


def all_arrive(inbox: Inbox, link: Link, sent: list[str]) -> None:
    assert until(lambda: link.counts["waiting"] == 0, 60) and until(lambda: len(inbox.events) >= len(sent), 10)
    assert sorted(inbox.ids()) == sorted(sent) and in_order(inbox.ids())
    assert link.counts["dropped"] == link.counts["refused"] == 0


def test_a_broker_that_is_killed_fifty_times(inbox, tmp_path):
    """With -9, at random moments, and it remembers nothing: what it may have lost is sent again."""
    random.seed(1)
    with Broker(tmp_path / "broker") as broker, Consumer(broker, inbox):
        link = Link(site(tmp_path, f"mqtt://{LOCAL}:{broker.port}"))
        source = Source(link)
        for _ in range(KILLS):
            time.sleep(random.random() * 0.2)
            broker.kill()
            time.sleep(random.random() * 0.05)
            broker.start()
        assert until(lambda: len(source.sent) > 100, 60)
        sent = source.stop()
        all_arrive(inbox, link, sent)
        link.close()


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_broker_that_remembers(inbox, tmp_path, end):
    """MQTT 3.1.1 doesn't say whether anybody listens: then the broker must know its subscribers when it comes back."""
    random.seed(2)
    lines = ["persistence true", f"persistence_location {tmp_path}/", "autosave_on_changes true", "autosave_interval 1"]
    with Broker(tmp_path / "broker", *lines) as broker:
        consumer = paho.Client(paho.CallbackAPIVersion.VERSION2, "server", clean_session=False)
        consumer.reconnect_delay_set(0.02, 0.02)
        subscribed = threading.Event()
        consumer.on_connect = lambda *_: consumer.subscribe("edge-vision/+/events", 1)
        consumer.on_subscribe = lambda *_: subscribed.set()
        consumer.on_message = lambda client, data, message: inbox.take(message.payload)
        consumer.connect(LOCAL, broker.port)
        consumer.loop_start()
        assert subscribed.wait(10)
        saved = tmp_path / "mosquitto.db"
        assert until(lambda: saved.exists() and b"edge-vision/+/events" in saved.read_bytes())
        link = Link(site(tmp_path, f"mqtt://{LOCAL}:{broker.port}", protocol="3.1.1"))
        source = Source(link)
        for _ in range(6):
            time.sleep(random.random() * 0.2)
            getattr(broker, end)()
            broker.start()
        all_arrive(inbox, link, source.stop())
        link.close()
        consumer.disconnect()
        consumer.loop_stop()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_line_that_is_cut(inbox, tmp_path, protocol):
    """In the middle of whatever it carries, acknowledgements too; for a moment or for some time."""
    random.seed(3)
    with Broker(tmp_path / "broker") as broker, Consumer(broker, inbox), Line(broker.port) as line:
        link = Link(site(tmp_path, f"mqtt://{LOCAL}:{line.port}", protocol=protocol))
        source = Source(link)
        for number in range(20):
            time.sleep(random.random() * 0.1)
            line.cut(up=number % 2 == 0)
            time.sleep(random.random() * 0.05)
            line.mend()
        all_arrive(inbox, link, source.stop())
        link.close()


DEVICE = """\
    import os, sys
    sys.path.insert(0, "tests")
    from pathlib import Path
    from edge.link import link as module
    from link_parties import site
    from link_parties import messages
    module.PAUSE = 0.02
    link = module.Link(site(Path(sys.argv[1]), sys.argv[2]))
    for number in range(int(sys.argv[3]), 10**9):
        (message,) = messages(1, number)
        link.send(message)
        os.write(1, b"%d\\n" % number)
"""


def test_a_device_that_is_killed(inbox, tmp_path):
    """With -9, while it sends; whatever `send` returned for arrives after the next start."""
    random.seed(4)
    with Broker(tmp_path / "broker") as broker, Consumer(broker, inbox):
        address, start = f"mqtt://{LOCAL}:{broker.port}", 0
        for _ in range(4):
            command = [sys.executable, "-c", textwrap.dedent(DEVICE), str(tmp_path), address, str(start)]
            process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE)
            first = process.stdout.readline()
            assert first
            time.sleep(random.random() * 0.3)
            process.send_signal(signal.SIGKILL)
            start = int((process.stdout.read().split() or [first])[-1]) + 1
            process.wait()
            process.stdout.close()
        link = Link(site(tmp_path, address))
        assert until(lambda: link.counts["waiting"] == 0, 30)
        expected = [message.message for message in messages(start)]
        assert until(lambda: len(inbox.events) >= start)
        # one may have been kept when the process was killed before it could say so
        assert set(expected) <= set(inbox.ids()) <= {m.message for m in messages(start + 1)} and in_order(inbox.ids())
        assert link.counts["dropped"] == 0
        link.close()


def test_beyond_the_bound_the_count_is_right(inbox, tmp_path):
    """The broker comes and goes, and the outbox is small: what did not arrive was dropped, and counted."""
    random.seed(5)
    with Broker(tmp_path / "broker") as broker, Consumer(broker, inbox):
        link = Link(site(tmp_path, f"mqtt://{LOCAL}:{broker.port}", most_messages=20))
        source = Source(link)
        for number in range(1, 9):
            time.sleep(random.random() * 0.1)
            broker.kill()
            assert until(lambda number=number: link.counts["dropped"] > 5 * number, 30)
            broker.start()
        sent = source.stop()
        assert until(lambda: link.counts["waiting"] == 0, 30)
        assert until(lambda: len(inbox.events) + link.counts["dropped"] >= len(sent))
        assert len(inbox.events) + link.counts["dropped"] == len(sent) and in_order(inbox.ids())
        link.close()


def test_the_newest_are_kept(inbox, tmp_path):
    """Without a broker; the one that is being sent may have arrived, and is kept too."""
    link = Link(site(tmp_path, f"mqtt://{LOCAL}:1", most_messages=30))
    for message in messages(100):
        link.send(message)
    assert link.counts["dropped"] == 70 and link.counts["waiting"] == 30
    link.close(0)
    with Broker(tmp_path / "broker") as broker, Consumer(broker, inbox):
        link = Link(site(tmp_path, f"mqtt://{LOCAL}:{broker.port}", most_messages=30))
        assert until(lambda: len(inbox.events) == 30)
        assert inbox.ids() == [message.message for message in messages(100)][-30:]
        assert link.counts["dropped"] == 70
        link.close()
