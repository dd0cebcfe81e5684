"""`watch` and `replay`: from a video file to events; every frame is accounted for; what comes from outside."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
import sites
import tiny_models
import typed_models
from conftest import ROOT, one_line

import edge
from edge.__main__ import main
from edge.defects.catalogue import open_catalogue, write_catalogue
from edge.errors import ModelError
from edge.event import from_json
from edge.inference.modelfile import write_model
from edge.watch.commands import Printer
from edge.watch.eyes import check_models
from edge.watch.rules_state import zone_score
from edge.watch.runner import run
from edge.watch.site import read_site
from edge.watch.watcher import Inputs, Watcher

pytestmark = pytest.mark.slow

SIZE = (160, 120)


def video(path, seconds=6, fps=25, enters=1.5, leaves=3.5, seed=0):
    """A square that stands in the left half from `enters` to `leaves`, trembling so that the background learns it not;
    before that, and after it, noise."""
    rng = np.random.default_rng(seed)
    file = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, SIZE)
    for i in range(int(seconds * fps)):
        image = np.clip(rng.normal(100, 2, (*SIZE[::-1], 3)), 0, 255).astype(np.uint8)
        if enters <= i / fps < leaves:
            x = 20 + int(12 * np.sin(i / 6))
            image[40:90, x : x + 20] = 230
        file.write(image)
    file.release()
    return path


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self):
        self.events = []

    def send(self, event):
        self.events.append(event)
        assert from_json(event.to_json()) == event


@pytest.fixture
def site(here):
    video(here / "in.avi")
    sites.write(here, sites.small())
    return here


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
    assert 5.5 <= time.monotonic() - start <= 12
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
    assert balanced(frames) and 27 <= frames["judged"] <= 33


def test_watch_ends_after_so_long_and_ends_its_events(site):
    events, figures, _ = played(seconds=2.8)
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
    assert err.count("\n") == 1 and message in err and "secret" not in err and time.monotonic() - began < 5
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


def frames_of(path):
    capture = cv2.VideoCapture(str(path))
    while True:
        fine, frame = capture.read()
        if not fine:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def watched(site, inputs, at=None, **more):
    """The events of a watcher over in.avi; `at(seconds, watcher)` is called before each frame."""
    sink, when = Kept(), datetime(2026, 6, 3, 12, tzinfo=UTC)
    watcher = Watcher(site, site.cameras[0], sink, inputs=inputs, live=False, **more)
    for i, frame in enumerate(frames_of("in.avi")):
        if at:
            at(i / 25, sink)
        watcher.look(frame, i / 25, when)
    watcher.close()
    return sink.events, watcher


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


def test_the_score_of_a_zone_that_is_the_whole_frame_is_that_of_the_model(site):
    model = tiny_models.build() / "float"
    camera = {"name": "cam", "source": "in.avi", "anomaly": "scene", "rate": 25, "motion": 0}
    zones = [{"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}, sites.SMALL["zones"][0]]
    models = [{"name": "scene", "folder": str(model)}]
    sites.write(site, sites.small(cameras=[camera], zones=zones, models=models, rules=[{"rule": "anomaly"}]))
    looks = []
    watched(read_site("site.json"), Inputs(), seen=lambda scene: looks.append(scene.anomaly))
    detector = edge.load(model)
    zones = read_site("site.json").zones
    for frame, look in list(zip(frames_of("in.avi"), looks, strict=True))[::20]:
        assert zone_score(look, zones["all"]) == look.score == pytest.approx(detector.predict(frame).score)
        assert zone_score(look, zones["left"]) <= look.score


def test_an_anomaly_model_gives_score_threshold_and_model(site):
    model = tiny_models.build() / "float"
    raw = json.loads((model / "model.json").read_text())
    camera = {"name": "cam", "source": "in.avi", "anomaly": "scene", "rate": 25, "motion": 0}
    still = {**camera, "motion": 20}
    models = [{"name": "scene", "folder": str(model)}]
    calm = {"rule": "anomaly", "threshold": 1e6}
    context = {"learn": True, "file": "learned.json", "least": 10}
    sites.write(site, sites.small(cameras=[camera], models=models, rules=[calm], context=context))
    found = read_site("site.json")
    events, watcher = watched(found, Inputs())
    assert events == [] and watcher.eyes.counts["anomaly"] == 150
    found.contexts.save()
    assert len(json.loads((site / "learned.json").read_text())["contexts"]) == 8  # four of the frame, four of the zone
    sites.write(site, sites.small(cameras=[camera], models=models, rules=[{"rule": "anomaly", "threshold": -1e6}]))
    events, _ = watched(read_site("site.json"), Inputs())
    assert events[0].phase == "new" and events[0].threshold == -1e6 and events[0].score is not None
    sites.write(site, sites.small(cameras=[still], models=models, rules=[calm]))
    _, watcher = watched(read_site("site.json"), Inputs())
    assert 5 <= watcher.eyes.counts["anomaly"] < 75  # while nothing moves, every two seconds
    assert events[0].model.name == raw["name"] and events[0].model.sha256 in raw["files"].values()


def inspected(site, frame, rules, **model):
    """The events of a watcher that sees a frame twice."""
    camera = {"name": "cam", "source": "in.avi", "anomaly": "scene", "rate": 25, "motion": 0}
    right = {"name": "right", "polygon": [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]}
    zones = [sites.SMALL["zones"][0], right]
    models = [{"name": "scene", "folder": "model", **model}]
    sites.write(site, sites.small(cameras=[camera], models=models, zones=zones, rules=rules))
    check_models(read_site("site.json"))
    sink = Kept()
    watcher = Watcher(read_site("site.json"), read_site("site.json").cameras[0], sink, live=False)
    for i in range(2):
        watcher.look(frame, i / 25, datetime(2026, 6, 3, 12, tzinfo=UTC))
    watcher.look(np.zeros_like(frame), 3, datetime(2026, 6, 3, 12, tzinfo=UTC))
    watcher.close()
    return sink.events


def test_an_anomaly_event_tells_the_type_of_what_is_in_its_zone(here, capsys):
    model = typed_models.write(here / "model")
    catalogue = typed_models.make_catalogue(here / "catalogue", model)
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[4:8, 2:6] = (180, 0, 0)
    frame[8:13, 10:15] = (0, 230, 0)  # brighter: of the frame as a whole it is a green one
    rules = [{"rule": "anomaly"}, {"rule": "anomaly", "name": "each", "zone": ["left", "right"]}]
    events = inspected(here, frame, rules, types="catalogue")
    assert [(event.rule, event.zone, event.defect.type) for event in events if event.phase == "new"] == [
        ("anomaly", None, "green"),
        ("each", "left", "red"),
        ("each", "right", "green"),
    ]
    told = edge.load(model, types=catalogue).predict(frame).type.to_json()
    for event in (event for event in events if event.rule == "anomaly"):  # the end tells what it was
        assert json.loads(event.to_json())["data"]["defect"] == told
    assert {event.phase for event in events} == {"new", "end"}
    Printer(False).send(events[0])
    assert capsys.readouterr().out.rstrip().endswith(f"  green ({told['distance']:.2f})")
    (event, *_) = inspected(here, frame, rules)
    assert event.defect is None and "defect" not in json.loads(event.to_json())["data"]


def test_a_type_is_told_where_the_threshold_is_the_rules_own(here):
    typed_models.make_catalogue(here / "catalogue", typed_models.write(here / "model"))
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[4:8, 2:6] = (60, 0, 0)  # good by the model's threshold
    (event, *_) = inspected(here, frame, [{"rule": "anomaly", "threshold": 0.02}], types="catalogue")
    assert event.score < 0.15 and event.defect.type == "red"


def test_names_of_a_catalogue_that_no_event_holds_are_cut(here):
    model = typed_models.write(here / "model")
    typed_models.make_catalogue(here / "catalogue", model)
    known = open_catalogue(here / "catalogue")
    points = [replace(p, type=f"red{'!' * 197}", picture=f"{'x' * 300}\n/{p.picture}") for p in known.points]
    shutil.rmtree(here / "catalogue")
    (here / "catalogue").mkdir()
    write_catalogue(here / "catalogue", known.rules, known.vectors, points)
    (event, *_) = inspected(here, typed_models.spot("red", 5)[0], [{"rule": "anomaly"}], types="catalogue")
    assert len(event.defect.type) == 200 and event.defect.type.startswith("red!")
    assert re.fullmatch(r"x+\\n/(red|green|blue)/\d\.png", event.defect.nearest[0].picture)


@pytest.mark.parametrize(
    ("types", "changes", "message"),
    [
        ("none", {}, "none/catalogue.json: not found"),
        ("other", {}, "other: made with the model"),
        ("catalogue", {"objects": "scene", "anomaly": None}, "task = 'anomaly'"),
    ],
)
def test_a_catalogue_is_checked_with_its_model(here, capsys, types, changes, message):
    typed_models.make_catalogue(here / "catalogue", typed_models.write(here / "model"))
    typed_models.make_catalogue(here / "other", typed_models.write(here / "another", seed=1))
    video(here / "in.avi", 0.2)
    camera = {"name": "cam", "source": "in.avi", "anomaly": "scene", **changes}
    models = [{"name": "scene", "folder": "model", "types": types}]
    rules = [{"rule": "anomaly"}] if camera["anomaly"] else []
    site = sites.write(here, sites.small(cameras=[camera], models=models, rules=rules))
    assert main(["check", site]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    camera.update(anomaly="scene", objects=None)
    models[0]["types"] = "catalogue"
    site = sites.write(here, sites.small(cameras=[camera], models=models, rules=[{"rule": "anomaly"}]))
    assert main(["check", site]) == 0


def test_a_letterboxed_frame_fills_its_map(here):
    """A zone is one of the frame, not of the model's input, half of which such a frame leaves empty."""
    typed_models.write(here / "model", resize="letterbox")
    frame = np.zeros((16, 32, 3), np.uint8)
    frame[13:, 20:24] = 230
    low = {"name": "low", "polygon": [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]}
    high = {"name": "high", "polygon": [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]}
    camera = {"name": "cam", "source": "in.avi", "anomaly": "scene", "rate": 25, "motion": 0}
    models = [{"name": "scene", "folder": "model"}]
    rules = [{"rule": "anomaly", "zone": ["low", "high"]}]
    sites.write(here, sites.small(cameras=[camera], models=models, zones=[low, high], rules=rules))
    sink, looks = Kept(), []
    found = read_site("site.json")
    watcher = Watcher(found, found.cameras[0], sink, live=False, seen=lambda scene: looks.append(scene.anomaly))
    watcher.look(frame, 0.0, datetime(2026, 6, 3, 12, tzinfo=UTC))
    assert [event.zone for event in sink.events] == ["low"]
    assert np.array_equal(looks[0].map, edge.load("model").predict(frame).raw_map)


def test_a_model_with_a_state_is_refused(site):
    """It would have to see every frame."""
    folder = shutil.copytree(tiny_models.build() / "float", site / "model")
    grid = {"dtype": "float32", "scale": 1.0, "zero_point": 0}
    state = {"input": "memory", "output": "next", "shape": [1, 4], **grid}
    write_model(folder, json.loads((folder / "model.json").read_text()) | {"state": [state]})
    camera = {"name": "cam", "source": "in.avi", "anomaly": "scene"}
    models = [{"name": "scene", "folder": "model"}]
    sites.write(site, sites.small(cameras=[camera], models=models, rules=[{"rule": "anomaly"}]))
    with pytest.raises(ModelError, match=r"cameras\.0: the model scene has a state, which has to see every") as caught:
        check_models(read_site("site.json"))
    one_line(caught)


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
