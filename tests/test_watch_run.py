"""`watch` and `replay`: from a video file to events; every frame is accounted for; what comes from outside."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sites
from conftest import ROOT
from watching import Kept, filmed, video, watched

from edge.__main__ import main
from edge.event import from_json
from edge.watch.runner import run
from edge.watch.site import read_site
from edge.watch.watcher import Inputs

pytestmark = pytest.mark.slow


@pytest.fixture
def site(here):
    return filmed(here)


def test_replay_reports_what_happens(site, capsys):
    assert main(["replay", "site.json", "in.avi", "--start", "2026-06-03 22:00"]) == 0
    lines = capsys.readouterr().out.splitlines()
    new, end = [line for line in lines if line.startswith("00:0")]
    assert new.split()[1:5] == ["new", "cam:", "presence", "in"] and 1.5 <= float(new.split()[0][3:]) <= 2
    assert end.split()[1] == "end" and 3.3 <= float(end.split()[0][3:]) <= 4.3
    assert any(line.startswith("wed 20-24") for line in lines)


def test_replay_as_json_is_cloudevents(site, capsys):
    assert main(["replay", "site.json", "in.avi", "--start", "2026-06-03 22:00", "--json"]) == 0
    *events, last = capsys.readouterr().out.splitlines()
    found = [from_json(line.encode()) for line in events]
    assert [event.phase for event in found] == ["new", "end"] and len({event.id for event in found}) == 1
    assert [event.sequence for event in found] == [0, 1]
    first = found[0]
    assert (first.device, first.camera, first.rule, first.kind, first.zone) == (
        ("test", "cam", "presence in left", "presence", "left")
    )
    assert first.time.date() == datetime(2026, 6, 3).date() and first.context["slot"] == "20-24"
    (thing,) = first.objects
    assert thing.label == "motion" and thing.box[0] < 0.4 and 0.3 < thing.box[1] < 0.4 and thing.track
    summary = json.loads(last)["summary"]
    frames = summary["frames"]
    assert frames["in"] == frames["judged"] + frames["spared"] == 150
    (context,) = summary["contexts"].values()  # 22:00 is a twelfth of a turn before midnight
    assert context["vector"][:2] == [-0.5, 0.866] and context["vector"][4:] == [0.0] and len(context["vector"]) == 5


def test_replay_is_the_same_every_time(site, capsys):
    def play():
        assert main(["replay", "site.json", "in.avi", "--start", "2026-06-03 22:00", "--json"]) == 0
        *events, last = capsys.readouterr().out.splitlines()
        found = [from_json(line.encode()) for line in events]
        return [(e.time, e.phase, e.objects) for e in found], json.loads(last)["summary"]["contexts"]

    assert play() == play()


def test_replay_is_in_the_time_zone_of_the_site(site, capsys):
    sites.write(site, sites.small(timezone="Asia/Tokyo", rules=[{"zone": "left", "time_after": "22:00"}]))
    for start, events in (("2026-06-03 21:00", 0), ("2026-06-03 22:00", 2), ("2026-06-03T13:30+00:00", 2)):
        assert main(["replay", "site.json", "in.avi", "--start", start, "--json"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == events + 1


def test_replay_with_truth_has_precision_and_recall(site, capsys):
    rows = "".join(f"{i},{int(38 <= i < 88)}\n" for i in range(150))
    (site / "truth.csv").write_text("frame,label\n" + rows)
    assert main(["replay", "site.json", "in.avi", "--start", "2026-06-03 22:00", "--truth", "truth.csv", "--json"]) == 0
    (figures,) = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["contexts"].values()
    assert figures["precision"] > 0.75 and figures["recall"] > 0.85 and figures["judged"] == 150


@pytest.mark.parametrize(
    "words, message",
    [
        (["replay", "site.json", "no.avi"], "no.avi: no such video file"),
        (["replay", "site.json", "site.json"], "site.json: not a video that OpenCV reads"),
        (["replay", "site.json", "in.avi", "--camera", "door"], "--camera door: must be one of cam"),
        (["replay", "site.json", "in.avi", "--start", "ten"], "--start ten: must be a time such as"),
        (["replay", "site.json", "in.avi", "--truth", "in.avi"], "in.avi: "),
        (["watch", "nothing.json"], "nothing.json: no such file"),
        (["watch", "site.json", "--seconds", "0"], "--seconds 0: must be above 0"),
    ],
)
def test_what_is_wrong_is_one_line(site, capsys, words, message):
    assert main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}") and err.count("\n") == 1


def played(seconds=None, stop=None, **changes):
    """The events, the figures and the last report of a site.json in this folder."""
    sites.write(Path.cwd(), sites.small(**changes))
    sink, reports = Kept(), []
    figures = run(
        read_site("site.json"), sink, None, Inputs(), reports.append, print, stop or threading.Event(), seconds
    )
    return sink.events, figures, reports


def balanced(frames):
    return frames["in"] == frames["judged"] + frames["spared"] + frames["dropped"] + frames["withheld"]


def test_watch_plays_a_file_at_its_own_speed(site):
    start = time.monotonic()
    events, figures, reports = played(stats=1)
    assert 5.5 <= time.monotonic() - start <= 30
    assert [event.phase for event in events] == ["new", "end"]
    assert abs((datetime.now(UTC) - events[-1].time).total_seconds()) < 10
    frames = figures["cameras"]["cam"]["frames"]
    assert frames["in"] == 150 and balanced(frames)
    assert len(reports) >= 4 and reports[-1] == figures
    assert figures["cameras"]["cam"]["latency_ms"]["p95"] > 0 and figures["memory_mb"] > 10


def test_a_rate_spares_frames(site):
    cameras = [{"name": "cam", "source": "in.avi", "objects": "motion", "rate": 5}]
    _, figures, _ = played(cameras=cameras)
    frames = figures["cameras"]["cam"]["frames"]
    assert balanced(frames) and frames["judged"] <= 33
    assert frames["judged"] + frames["dropped"] / 5 >= 27  # a busy machine drops frames instead of judging them


def test_watch_ends_after_so_long_and_ends_its_events(site):
    video(site / "in.avi", seconds=20, leaves=20)
    events, figures, _ = played(seconds=5)
    assert [event.phase for event in events] == ["new", "end"] and events[-1].context["ended_by"] == "stopped"
    assert balanced(figures["cameras"]["cam"]["frames"])


@pytest.mark.parametrize(
    "source, message",
    [
        ("no.avi", "no.avi: no such video file"),
        ("file://{folder}/no.avi", "no.avi: no such video file"),
        (".", "a folder; give a video file"),
        ("/dev/null", "/dev/null: a device, but no camera"),
        ("/dev/null/x", "/dev/null/x: no such video file"),
        ("rtps://10.0.0.5/live", "no address of a stream that OpenCV reads"),
        ("rtsp://", "an address without a host"),
        ("rtsp://user:secret@[::1/live", "rtsp://***@[::1/live'"),
        ("http://10.0.0.5:port/", "no address that can be opened"),
        ("bad.avi", "bad.avi: not a video that OpenCV reads"),
        ("empty.avi", "empty.avi: an empty file"),
    ],
)
def test_a_source_that_can_never_work_is_one_line_at_the_start(site, capsys, source, message):
    """Also where another camera works: it will not come, unlike a camera that is offline."""
    (site / "bad.avi").write_bytes(b"nothing")
    (site / "empty.avi").touch()
    source = source.format(folder=site)
    cameras = [
        {"name": "cam", "source": "in.avi", "objects": "motion", "loop": True},
        {"name": "two", "source": source, "objects": "motion"},
    ]
    zones = [{**sites.SMALL["zones"][0], "camera": "cam"}]
    sites.write(site, sites.small(cameras=cameras, zones=zones))
    began = time.monotonic()
    assert main(["watch", "site.json", "--seconds", "20"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and message in err and "secret" not in err and time.monotonic() - began < 15
    if source.endswith(("bad.avi", "empty.avi")):  # which have to be opened
        return
    assert "site.json: cameras.1.source" in err
    assert main(["check", "site.json"]) == 1
    assert capsys.readouterr().err == err


@pytest.mark.parametrize("source", ["rtsp://127.0.0.1:9/x", "/dev/video77", 77, "http://nowhere.invalid/x.mjpg"])
def test_a_source_that_may_come_is_tried_again_and_said(site, capsys, source):
    sites.write(site, sites.small(cameras=[{"name": "cam", "source": source, "objects": "motion"}]))
    assert main(["check", "site.json"]) == 0
    assert main(["watch", "site.json", "--seconds", "1.5", "--json"]) == 0
    out, err = capsys.readouterr()
    stats = json.loads(out.splitlines()[-1])["stats"]["cameras"]["cam"]
    assert stats["state"] == "not there" and stats["frames"]["not_opened"] >= 1 and "; trying again" in err


def test_a_file_of_what_was_learned_that_cant_be_written_is_said_at_the_start(site, capsys):
    sites.write(site, sites.small(context={"learn": True, "file": "nowhere/learned.json"}))
    assert main(["watch", "site.json", "--seconds", "20"]) == 1
    err = capsys.readouterr().err
    assert "nowhere/learned.json: can't be written" in err and err.count("\n") == 1


def test_a_camera_that_is_not_there_is_tried_again_while_the_other_goes_on(site, capsys):
    cameras = [
        {"name": "cam", "source": "in.avi", "objects": "motion", "rate": 25},
        {"name": "off", "source": "rtsp://127.0.0.1:9/x", "objects": "motion"},
    ]
    zones = [{**sites.SMALL["zones"][0], "camera": "cam"}]
    events, figures, reports = played(seconds=5.5, cameras=cameras, zones=zones, stats=2)
    assert [event.phase for event in events] == ["new", "end"]
    assert figures["cameras"]["off"]["frames"]["not_opened"] >= 2
    assert {report["cameras"]["off"]["state"] for report in reports} == {"not there"}
    assert reports[0]["cameras"]["cam"]["state"] == "watching"
    out = capsys.readouterr().out
    assert out.count("camera off: ") == 1 and "trying again" in out


def test_a_file_that_is_no_video_ends_it_in_one_line(site, capsys):
    (site / "bad.avi").write_bytes(b"nothing")
    sites.write(site, sites.small(cameras=[{"name": "cam", "source": "bad.avi", "objects": "motion"}]))
    assert main(["watch", "site.json"]) == 1
    assert capsys.readouterr().err == "error: bad.avi: not a video that OpenCV reads\n"


def test_sigterm_ends_in_order(site):
    sites.write(site, sites.small(cameras=[{**sites.SMALL["cameras"][0], "loop": True}]))
    command = [sys.executable, "-m", "edge", "watch", "site.json", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=site, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and err == b""
    assert from_json(first).phase == "new"
    *rest, last = out.splitlines()
    assert from_json(rest[-1]).phase == "end" and balanced(json.loads(last)["stats"]["cameras"]["cam"]["frames"])


def test_a_sensor_lets_a_rule_hold(site):
    rules = [{"zone": "left", "sensor": "door"}, {"rule": "sensor", "sensor": "door", "seconds": 1}]
    sites.write(site, sites.small(sensors=["door"], rules=rules))
    inputs = Inputs(("door",))
    inputs.set("window", True)  # which the site doesn't know

    def at(seconds, _):
        inputs.set("door", 2 <= seconds < 3.2)

    events, _ = watched(read_site("site.json"), inputs, at)
    assert [(event.rule, event.phase) for event in events] == [
        ("presence in left", "new"),
        ("sensor", "new"),
        ("presence in left", "end"),
        ("sensor", "end"),
    ]


def test_a_dismissed_event_ends_at_once(site):
    inputs = Inputs()

    def at(seconds, sink):
        if seconds == 2.4 and sink.events:
            inputs.dismiss(sink.events[0].id)

    events, watcher = watched(read_site("site.json"), inputs, at)
    assert [event.phase for event in events] == ["new", "end"]
    assert events[-1].context["ended_by"] == "dismissed" and watcher.stats()["suppressed"] == 1


class FakeRecorder:
    """Says what it was asked; its clip is there when the time after the event has passed."""

    after = 1.0

    def __init__(self):
        self.frames, self.calls = [], []

    def add(self, camera, frame, time):
        self.frames.append(time)

    def begin(self, event):
        self.calls.append(("begin", event.id, self.frames[-1]))

    def update(self, event):
        pass

    def end(self, event):
        self.calls.append(("end", event.id, self.frames[-1]))


@pytest.mark.parametrize("action, calls", [("alert", 2), ("record", 2), ("log", 0)])
def test_a_clip_goes_on_after_the_event(site, action, calls):
    sites.write(site, sites.small(rules=[{"zone": "left", "action": action, "end_after": 0.5}]))
    recorder = FakeRecorder()
    events, _ = watched(read_site("site.json"), Inputs(), recorder=recorder)
    assert [event.phase for event in events] == ["new", "end"] and len(recorder.frames) == 150
    assert len(recorder.calls) == calls
    if calls:
        (_, first, began), (_, second, ended) = recorder.calls
        assert first == second == events[0].id and 1.5 <= began <= 2 and 4.4 <= ended <= 5.6


def test_frames_that_the_guard_withholds_are_counted_and_not_seen(site, monkeypatch):
    from edge.watch.site import Privacy

    def broken(self):
        def fail(frame):
            raise ValueError("the finder is broken")

        from edge.app.privacy import Guard

        return Guard("fill", fail)

    monkeypatch.setattr(Privacy, "guard", broken)
    events, figures, _ = played(privacy={"zones": [[0, 0, 0.1, 0.1]]})
    frames = figures["cameras"]["cam"]["frames"]
    assert events == [] and frames["withheld"] == frames["in"] == 150 and balanced(frames)


def test_a_zone_of_privacy_is_black_in_what_is_seen(site, capsys):
    sites.write(site, sites.small(privacy={"zones": [[0, 0, 0.5, 1]]}))
    assert main(["replay", "site.json", "in.avi", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()  # what moves is hidden, and so no event
    assert json.loads(line)["summary"]["events"] == {"new": 0, "update": 0, "end": 0}
