"""A watch and its broker in network namespaces of their own, the cable between them pulled at random instants, and the
device killed with -9: nothing that it said is lost, each message is stored once, in the order of its event."""

from __future__ import annotations

import base64
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
import sites
from link_parties import MOSQUITTO, Inbox, environment, has_mosquitto, site, until
from namespaces import THERE, Namespaces
from test_link_losses import in_order
from watching import video

from edge.event import from_json

pytestmark = [
    pytest.mark.skipif(not has_mosquitto(), reason="needs mosquitto (apt-get install mosquitto)"),
    pytest.mark.slow,
]
PORT = 1883
CUTS, KILLS = 8, 2
CONSUMER = """\
import base64, sys
import paho.mqtt.client as paho
client = paho.Client(paho.CallbackAPIVersion.VERSION2, "store", protocol=paho.MQTTv5)
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_message = lambda c, d, m: print(base64.b64encode(m.payload).decode(), flush=True)
client.connect(sys.argv[1], int(sys.argv[2]))
client.subscribe("edge-vision/+/events", 1)
client.loop_forever()
"""


@pytest.fixture
def cable():
    try:
        made = Namespaces()
    except (OSError, subprocess.CalledProcessError) as error:
        why = (getattr(error, "stderr", None) or str(error)).strip()
        pytest.skip(f"no network namespaces can be made here (root and iproute2 are needed): {why}")
    with made:
        yield made


class Party:
    """A process in a namespace, whose lines a thread takes."""

    def __init__(self, command, take, **options):
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), **options)
        self._take = take
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        for line in self.child.stdout:
            self._take(line)

    def end(self, number):
        self.child.send_signal(number)
        self.child.wait(60)
        self._thread.join()


def busy_site(folder, address):
    """A square that comes and goes in the left half, and rules that say so all the time."""
    video(folder / "in.avi", seconds=3, enters=0.5, leaves=2)
    rule = {"zone": "left", "action": "log", "end_after": 0.2, "cooldown": 0, "update": 0.5}
    rules = [{**rule, "name": f"rule {i}", "seconds": i / 10} for i in range(6)]
    cameras = [{**sites.SMALL["cameras"][0], "loop": True}]
    site(folder, address)  # makes the keys
    sites.write(folder, sites.small(cameras=cameras, rules=rules, link={"address": address, "keys": "device.json"}))


def test_a_cable_that_is_pulled_and_a_device_that_is_killed(cable, tmp_path):
    random.seed(6)
    busy_site(tmp_path, f"mqtt://{THERE}:{PORT}")
    (tmp_path / "mosquitto.conf").write_text(
        f"listener {PORT} {THERE}\nallow_anonymous true\nuser root\nmax_queued_messages 0\n"
    )
    inbox, ready, printed = Inbox(tmp_path / "server.json"), threading.Event(), []

    def stored(line):
        if line.strip() == b"ready":
            ready.set()
        else:
            inbox.take(base64.b64decode(line))

    def said(line):
        if b'"stats"' not in line[:10]:
            printed.append(from_json(line).message)

    with open(tmp_path / "log", "wb") as log:
        broker = subprocess.Popen(cable.inside(cable.broker, MOSQUITTO, "-c", tmp_path / "mosquitto.conf"), stderr=log)
    assert until(lambda: b"running" in (tmp_path / "log").read_bytes(), 20), (tmp_path / "log").read_text()
    consumer = Party(cable.inside(cable.broker, sys.executable, "-c", CONSUMER, THERE, PORT), stored)
    watch = cable.inside(cable.device, sys.executable, "-m", "edge", "watch", "site.json", "--json")
    try:
        assert ready.wait(20), (tmp_path / "log").read_text()
        late = 0
        for life in range(KILLS + 1):
            before = len(printed)
            device = Party(watch, said, cwd=tmp_path, stderr=subprocess.DEVNULL)
            assert until(lambda before=before: len(printed) > before, 60)
            for _ in range(CUTS // (KILLS + 1) + 1):
                time.sleep(0.5 * random.random())
                cable.pull()
                time.sleep(1.2 * random.random())
                late = max(late, len(set(printed) - set(inbox.ids())))
                cable.plug()
            time.sleep(random.random())
            device.end(signal.SIGKILL if life < KILLS else signal.SIGTERM)
        device = Party(watch, said, cwd=tmp_path, stderr=subprocess.DEVNULL)  # what was left is sent by the next start
        assert until(lambda: set(printed) <= set(inbox.ids()), 90)
        device.end(signal.SIGTERM)
        assert until(lambda: set(printed) <= set(inbox.ids()), 30)
    finally:
        for party in (consumer.child, broker, device.child):
            party.kill()
            party.wait()
    assert late > 0  # the cable was really cut: something had to wait
    assert len(printed) > 30 and len(set(printed)) == len(printed)
    assert in_order(inbox.ids())
    # a message may be in the outbox of a device that was killed before it could print it
    assert len(set(inbox.ids()) - set(printed)) <= KILLS
