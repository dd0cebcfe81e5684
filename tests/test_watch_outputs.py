"""A whole site: sensors in by MQTT, clips of guarded frames, events sealed and out; with a real broker."""

import hashlib

import cv2
import numpy as np
import pytest
import sites
from link_parties import Broker, Consumer, Inbox, has_mosquitto, until
from watching import video

from edge.__main__ import main
from edge.errors import UserError
from edge.watch.site import read_site

CLIPS = {"folder": "clips", "before": 1, "after": 1, "budget_mb": 50}


@pytest.mark.slow
@pytest.mark.skipif(not has_mosquitto(), reason="needs mosquitto")
def test_a_site_from_sensor_to_sealed_event(here, capsys):
    video(here / "in.avi")
    assert main(["keys", "2026", "device.json", "server.json"]) == 0
    rules = [{"zone": "left", "end_after": 0.5}, {"rule": "sensor", "sensor": "back door", "action": "log"}]
    with Broker(here / "broker") as broker:
        inbox = Inbox(here / "server.json")
        with Consumer(broker, inbox) as consumer:
            link = {"address": f"mqtt://127.0.0.1:{broker.port}", "keys": "device.json"}
            # the upper part of the picture is hidden, in clips too
            privacy = {"zones": [[0, 0, 1, 0.25]]}
            sites.write(
                here,
                sites.small(rules=rules, sensors=["back door"], clips=CLIPS, privacy=privacy, link=link, stats=1),
            )
            consumer.client.publish("edge-vision/test/sensors/back%20door", "open", 1, retain=True)
            assert main(["watch", "site.json"]) == 0
            assert until(lambda: len(inbox.events) >= 4, 30)
            assert until(lambda: any(topic.endswith("/stats") for topic in consumer.topics), 30)
    found = {(event.rule, event.phase): event for event in inbox.events.values()}
    assert set(found) == {(rule, phase) for rule in ("presence in left", "sensor") for phase in ("new", "end")}
    clip = found["presence in left", "end"].clip
    assert clip is not None and found["sensor", "end"].clip is None
    data = (here / "clips" / clip.name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == clip.sha256 and len(data) == clip.bytes
    assert 1 <= clip.seconds <= 6 and (here / "clips" / clip.picture).exists()
    capture, frames = cv2.VideoCapture(str(here / "clips" / clip.name)), []
    while (frame := capture.read()[1]) is not None:
        frames.append(frame)
    assert len(frames) >= 5 and all(frame[:28].max() <= 8 for frame in frames)
    assert np.mean([frame[60:80, :60].max() > 180 for frame in frames]) > 0.2  # what the event is about
    assert "1 frames" not in capsys.readouterr().err


def test_clips_need_a_word_about_privacy(here):
    sites.write(here, sites.small(clips=CLIPS))
    with pytest.raises(UserError, match="privacy: missing field; clips are kept"):
        read_site("site.json")
    sites.write(here, sites.small(clips=CLIPS, privacy=None))
    assert read_site("site.json").clips.before == 1


@pytest.mark.parametrize(
    "section, message",
    [
        ({"clips": {"before": -1}, "privacy": None}, "clips.before = -1: must be"),
        ({"link": {"address": "ftp://x", "keys": "k"}}, "link.address = "),
        ({"link": {"address": "mqtts://broker.example", "keys": "no.json"}}, "no.json"),
    ],
)
def test_what_is_wrong_is_one_line(here, capsys, section, message):
    video(here / "in.avi", seconds=1)
    sites.write(here, sites.small(**section))
    assert main(["watch", "site.json"]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.startswith("error: ")
