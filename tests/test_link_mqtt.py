"""Sending to a real mosquitto: topics, TLS, passwords and certificates, the last will, and what brokers refuse."""

import json
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from link_parties import (
    LOCAL,
    Authority,
    Broker,
    Consumer,
    Line,
    has_mosquitto,
    links,
    messages,
    pauses,
    private,
    site,
    until,
)
from test_event import event

from edge.event import Clip
from edge.link import mqtt
from edge.link.endpoint import tls
from edge.link.link import Link
from edge.link.parts import read_part

pytestmark = [
    pytest.mark.skipif(not has_mosquitto(), reason="needs mosquitto (apt-get install mosquitto)"),
    pytest.mark.slow,
]
PROTOCOLS = pytest.mark.parametrize("protocol", ["5", "3.1.1"])
PREFIX = "edge-vision/gate-1"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    pauses(monkeypatch, 0.02, 0.1)


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def make(tmp_path, said):
    def make(port, scheme="mqtt", **more) -> Link:
        made.append(Link(site(tmp_path, f"{scheme}://{LOCAL}:{port}", **more), tmp_path / "clips", said.append))
        return made[-1]

    with links() as made:
        yield make


def arrived(inbox, link, count: int) -> None:
    """All are there, once each, and in the order of their events."""
    assert until(lambda: len(inbox.events) >= count and link.counts["waiting"] == 0, 20), link.counts
    assert sorted(inbox.ids()) == sorted(message.message for message in messages(count))
    for number in range(count // 3):
        assert [i for i in inbox.ids() if i.startswith(f"e{number}/")] == [f"e{number}/{k}" for k in range(3)]


@PROTOCOLS
def test_events_arrive_sealed_with_qos_1(inbox, broker, make, protocol):
    with Consumer(broker, inbox) as consumer:
        link = make(broker.port, protocol=protocol)
        for message in messages(9):
            link.send(message)
        link.stats({"fps": 12})
        arrived(inbox, link, 9)
        assert consumer.qos == {1} and inbox.twice == 0
        assert until(lambda: len(consumer.topics.get(f"{PREFIX}/stats", [])) == 1)
        assert consumer.topics[f"{PREFIX}/available"] == [b"online"]
        link.close()
        assert until(lambda: consumer.topics[f"{PREFIX}/available"] == [b"online", b"offline"])
        time.sleep(0.2)
        assert consumer.topics[f"{PREFIX}/available"] == [b"online", b"offline"]  # and no last will


@PROTOCOLS
def test_the_last_will(inbox, broker, make, protocol):
    """A line that is cut without a word: the broker says that the device is offline, and later that it is back."""
    with Consumer(broker, inbox) as consumer, Line(broker.port) as line:
        make(line.port, protocol=protocol)
        assert until(lambda: consumer.topics.get(f"{PREFIX}/available") == [b"online"])
        line.cut()
        assert until(lambda: consumer.topics[f"{PREFIX}/available"] == [b"online", b"offline"])
        line.mend()
        assert until(lambda: consumer.topics[f"{PREFIX}/available"][-1] == b"online")


def test_available_is_retained(inbox, broker, make):
    link = make(broker.port)
    assert until(lambda: link._sender._connected)
    time.sleep(0.05)
    with Consumer(broker, inbox) as consumer:
        assert until(lambda: consumer.topics.get(f"{PREFIX}/available") == [b"online"])


@PROTOCOLS
def test_clips(inbox, broker, make, tmp_path, protocol):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/e0.avi").write_bytes(bytes(range(250)) * 2000)
    with Consumer(broker, inbox):
        link = make(broker.port, protocol=protocol, clips=True)
        link.send(event(clip=Clip("e0.avi", "ab" * 32, 500_000, 3.5)))
        assert until(lambda: link.counts["sent_clips"] == 1) and until(lambda: len(inbox.other) == 11)
    read = [read_part(plain) for _, plain in inbox.other]
    assert b"".join(data for _, data in read) == (tmp_path / "clips/e0.avi").read_bytes()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def secured(authority, *lines, host=LOCAL) -> list[str]:
    certificate, key = authority.issue("broker", host)
    return [f"cafile {authority.file}", f"certfile {certificate}", f"keyfile {key}", *lines]


@PROTOCOLS
def test_tls_with_a_client_certificate(inbox, make, authority, tmp_path, protocol, said):
    certificate, key = authority.issue("gate-1")
    lines = secured(authority, "require_certificate true", "use_identity_as_username true")
    with Broker(tmp_path / "broker", *lines) as broker:
        with Consumer(broker, inbox, context=tls(authority.file, certificate, key)):
            files = {"certificate": str(certificate), "certificate_key": str(key)}
            link = make(broker.port, "mqtts", protocol=protocol, authority=str(authority.file), **files)
            link.send(messages(1)[0])
            assert until(lambda: inbox.ids() == ["e0/0"])
            link.close()
        link = make(broker.port, "mqtts", protocol=protocol, authority=str(authority.file))
        link.send(messages(2)[1])
        assert until(lambda: said)
        assert link.counts["sent_events"] == 0 and said[-1].startswith(f"mqtts://{LOCAL}:{broker.port}: ")


@PROTOCOLS
def test_a_password(inbox, make, authority, tmp_path, protocol, said):
    passwords = tmp_path / "passwords"
    private(tmp_path / "password", "geheim-123\n")
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "gate", "geheim-123"], check=True, capture_output=True)
    lines = secured(authority, "allow_anonymous false", f"password_file {passwords}")
    with Broker(tmp_path / "broker", *lines) as broker:
        user = {"user": ("gate", "geheim-123")}
        with Consumer(broker, inbox, context=tls(authority.file), **user):
            options = {"protocol": protocol, "authority": str(authority.file), "user": "gate"}
            link = make(broker.port, "mqtts", password_file="password", **options)
            link.send(messages(1)[0])
            assert until(lambda: inbox.ids() == ["e0/0"])
            link.close()
        private(tmp_path / "password", "falsch-123")
        link = make(broker.port, "mqtts", password_file="password", **options)
        assert until(lambda: said)
        assert "the broker refused the connection: Not authorized" in said[-1]
        assert not [line for line in said if "123" in line.replace(str(broker.port), "")]


@pytest.mark.parametrize("why", ["foreign", "name"])
def test_a_broker_that_is_not_the_one(inbox, make, authority, tmp_path, said, why):
    lines = secured(Authority(tmp_path / "other")) if why == "foreign" else secured(authority, host="192.0.2.1")
    with Broker(tmp_path / "broker", *lines) as broker:
        link = make(broker.port, "mqtts", authority=str(authority.file))
        assert until(lambda: said) and "certificate verify failed" in said[0]
        link.send(messages(1)[0])
        assert link.counts["waiting"] == 1


def test_nobody_listens(inbox, broker, make, said):
    """MQTT 5 says so, and the events stay here until somebody does."""
    link = make(broker.port)
    for message in messages(3):
        link.send(message)
    assert until(lambda: said)
    assert f"nobody subscribes to {PREFIX}/events" in said[0] and link.counts["waiting"] == 3
    with Consumer(broker, inbox):
        arrived(inbox, link, 3)


def test_a_message_that_the_broker_never_takes(inbox, make, tmp_path, said):
    with Broker(tmp_path / "broker", "max_packet_size 4000") as broker, Consumer(broker, inbox):
        link = make(broker.port)
        sent = messages(3)
        link.send(sent[0])
        link.send(event(id="large", objects=event().objects * 100))
        link.send(sent[1])
        assert until(lambda: link.counts["waiting"] == 0)
        assert until(lambda: inbox.ids() == ["e0/0", "e0/1"]) and link.counts["refused"] == 1
        assert "takes 4000 bytes at most" in said[0]


def test_a_topic_that_the_broker_does_not_allow(inbox, make, tmp_path, said):
    (tmp_path / "acl").write_text(f"topic readwrite {PREFIX}/available\n")
    with Broker(tmp_path / "broker", f"acl_file {tmp_path / 'acl'}") as broker:
        link = make(broker.port)
        link.send(messages(1)[0])
        assert until(lambda: said)
        assert f"the broker does not take {PREFIX}/events (reason 0x87)" in said[0] and link.counts["waiting"] == 1


@PROTOCOLS
def test_home_assistant(inbox, broker, make, protocol):
    """Discovery as its documentation has it: retained configurations whose topics are those of the states."""
    link = make(broker.port, protocol=protocol, home_assistant=True)
    link.announce([("yard", "loiter at the gate"), ("küche/1", "a+b#")])
    with Consumer(broker, inbox) as consumer:

        def configurations():
            return [topic for topic in list(consumer.topics) if topic.startswith("homeassistant/")]

        assert until(lambda: len(configurations()) == 2)
        found = [json.loads(consumer.topics[topic][0]) for topic in configurations()]
        assert len({config["unique_id"] for config in found}) == 2
        for topic, config in zip(configurations(), found, strict=True):
            assert len(topic.split("/")) == 5 and topic.endswith("/config")
            assert all(part.replace("_", "").replace("-", "").isalnum() for part in topic.split("/"))
            assert config["availability_topic"] == f"{PREFIX}/available" and config["device"]["name"] == "gate-1"
            assert until(lambda config=config: consumer.topics.get(config["state_topic"]) == [b"OFF"])
        state = next(c["state_topic"] for c in found if c["name"] == "yard: loiter at the gate")
        for phase, expected in (("new", b"ON"), ("end", b"OFF")):
            link.send(event(phase=phase, clip=None))
            assert until(lambda expected=expected: consumer.topics[state][-1] == expected)


def test_without_home_assistant_nothing_is_told(inbox, broker, make):
    with Consumer(broker, inbox) as consumer:
        link = make(broker.port)
        link.announce([("yard", "loiter")])
        link.send(event(clip=None))
        assert until(lambda: inbox.events)
        link.close()
        assert set(consumer.topics) == {f"{PREFIX}/available"}


def test_a_line_that_stalls(inbox, broker, make, said, monkeypatch):
    """Nothing comes through, and nobody says so: after a while the link makes another connection."""
    with Consumer(broker, inbox) as consumer, Line(broker.port) as line:
        link = make(line.port)
        assert until(lambda: consumer.topics.get(f"{PREFIX}/available") == [b"online"])
        assert until(lambda: link._number == 1)  # the broker has acknowledged it
        monkeypatch.setattr(mqtt, "TIMEOUT", 0.5)
        line.stall()
        for message in messages(6):
            link.send(message)
        assert until(lambda: said) and ("no acknowledgement" in said[0] or "no answer" in said[0])
        monkeypatch.setattr(mqtt, "TIMEOUT", 30)
        line.mend()
        arrived(inbox, link, 6)


@pytest.mark.parametrize("answer", [b"", b"\x20\x03\x00\x87\x00", b"\xff" * 100, b"HTTP/1.1 400\r\n\r\n"])
@PROTOCOLS
def test_what_is_no_broker(inbox, make, said, answer, protocol):
    with socket.create_server((LOCAL, 0)) as listening:

        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        link = make(listening.getsockname()[1], protocol=protocol)
        link.send(messages(1)[0])
        assert until(lambda: said)
        assert link._thread.is_alive() and link.counts["waiting"] == 1 and "\n" not in said[0]
        link.close(0)


def test_close_and_start_again_leaves_no_thread(inbox, broker, make):
    with Consumer(broker, inbox):
        before = set(threading.enumerate())
        for number in range(5):
            link = make(broker.port)
            link.send(event(id=f"n{number}", clip=None))
            assert until(lambda link=link: link.counts["waiting"] == 0)
            link.close()
        assert until(lambda: not set(threading.enumerate()) - before)
        assert len(inbox.events) == 5 and len(list(Path("/proc/self/fd").iterdir())) < 200


class Heard:
    """Takes what comes in."""

    def __init__(self):
        self.sensors, self.dismissed = {}, []

    def set(self, sensor, on):
        if sensor == "broken":
            raise RuntimeError("of whoever takes it")
        self.sensors[sensor] = on

    def dismiss(self, event):
        self.dismissed.append(event)


@PROTOCOLS
def test_what_comes_in(inbox, broker, tmp_path, said, protocol):
    """Also what was said before the device came (retained), and again after the line was cut."""
    heard = Heard()
    with Consumer(broker, inbox) as consumer, Line(broker.port) as line:

        def say(topic, payload, retain=False):
            consumer.client.publish(f"{PREFIX}/{topic}", payload, 1, retain).wait_for_publish(5)

        say("sensors/door", "ON", retain=True)
        options = {"say": said.append, "inputs": heard}
        link = Link(site(tmp_path, f"mqtt://{LOCAL}:{line.port}", protocol=protocol), **options)
        assert until(lambda: heard.sensors == {"door": True})
        say("sensors/broken", "on")
        say("sensors/door", "maybe")
        say("sensors/door", b"\xff\n")
        say("dismiss", "")
        say("other", "ON")
        say("sensors/b%C3%BCro%2F1", "closed")
        say("dismiss", "7f3a")
        assert until(lambda: heard.dismissed) == ["7f3a"]
        assert heard.sensors == {"door": True, "büro/1": False}
        assert len(said) == 4 and not any("\n" in line for line in said)
        assert said[1] == (
            "sensors/door: 'maybe' left out: must be on or open or true or 1 or off or closed or false or 0"
        )
        heard.sensors.clear()
        line.cut(up=True)
        assert until(lambda: heard.sensors == {"door": True})
        link.close()
