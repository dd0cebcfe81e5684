"""Video: streams, the command, and a clean end."""

import csv
import dataclasses
import http.server
import io
import json
import shutil
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import tiny_models
from conftest import ROOT
from videos import retime, values, write

import edge
from edge.__main__ import main
from edge.app import source, video
from edge.app.source import Source
from edge.app.stream import Stream
from edge.app.writer import Writer
from edge.errors import UserError
from edge.inference.modelfile import write_model

random = np.random.default_rng(11)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The int8 model with a threshold between dark frames, defects to it, and bright ones."""
    folder = shutil.copytree(tiny_models.build() / "int8", tmp_path_factory.mktemp("model") / "int8")
    raw = json.loads((folder / "model.json").read_text())
    write_model(folder, {**raw, "threshold": {**raw["threshold"], "value": -0.5}})
    return folder


# streams


@pytest.mark.parametrize("slow", ["caller", "model"])
def test_a_realtime_stream_drops_what_is_late_and_loses_count_of_nothing(monkeypatch, model, tmp_path, slow):
    path = write(tmp_path / "a.avi", [i % 200 for i in range(100)], fps=400)
    detector = edge.load(model)
    judge = detector.judge
    if slow == "model":
        monkeypatch.setattr(detector, "judge", lambda *given: time.sleep(0.02) or judge(*given))
    with edge.stream(detector, path, realtime=True) as frames:
        seen = []
        for frame in frames:
            seen.append(frame.index)
            time.sleep(0.02 if slow == "caller" else 0)
    counts = frames.counts
    assert seen == sorted(set(seen)) and counts["out"] == len(seen)
    assert counts["in"] == 100 == counts["out"] + counts["dropped"] and counts["dropped"] > 20


def test_a_file_is_judged_frame_by_frame_like_its_pictures(model, tmp_path):
    path = write(tmp_path / "a.avi", [0, 50, 100, 150, 200] * 4)
    detector = edge.load(model)
    expected = [detector.predict(np.full((48, 64, 3), v, np.uint8)) for v in (0, 50, 100, 150, 200)] * 4
    with edge.stream(detector, path) as frames:
        seen = list(frames)
    assert [f.index for f in seen] == list(range(20)) and [f.seconds for f in seen] == [i / 25 for i in range(20)]
    np.testing.assert_allclose([f.score for f in seen], [p.score for p in expected], atol=0.05)
    np.testing.assert_allclose(seen[7].map, expected[7].map, atol=0.05)
    assert frames.counts["dropped"] == 0 and all(f.fresh for f in seen)


def test_spared_inferences_are_counted_and_keep_the_verdict(model, tmp_path):
    path = write(tmp_path / "a.avi", [20] * 30 + [120] * 30)
    with edge.stream(model, path, motion=4) as frames:
        seen = list(frames)
    counts = frames.counts
    # five of a kind turn the alarm
    assert [f.index for f in seen if f.fresh] == [0, 1, 2, 3, 4, 30, 31, 32, 33, 34] and len(
        {f.score for f in seen}
    ) == 2
    assert (counts["inferred"], counts["skipped_by_motion"], counts["out"]) == (10, 50, 60)
    assert [f.is_defect for f in seen] == [True] * 30 + [False] * 30
    assert [f.alarm for f in seen] == [False] * 4 + [True] * 30 + [False] * 26
    with edge.stream(model, path, rate=5) as frames:
        assert sum(f.fresh for f in frames) == frames.counts["inferred"] == 12
    assert frames.counts["skipped_by_rate"] == 48


@pytest.mark.parametrize("wrong", [{3}, {3, 4, 5, 6}, {3, 5, 7, 9, 11}, {0}, set(range(0, 60, 2))])
def test_misjudged_inferences_do_not_turn_the_alarm_of_what_rests(monkeypatch, model, tmp_path, wrong):
    """Inferences by number; each of them but the first is caused by motion or by a doubt about the one before."""
    path = write(tmp_path / "a.avi", [value for value in (100, 150) * 15 for _ in range(4)])
    detector, calls = edge.load(model), iter(range(1000))
    judge = detector.judge

    def misjudge(*given):
        return dataclasses.replace(judge(*given), is_defect=next(calls) in wrong)

    monkeypatch.setattr(detector, "judge", misjudge)  # before the stream, whose threads begin at once
    with edge.stream(detector, path, motion=4) as frames:
        seen = list(frames)
    assert frames.counts["inferred"] > max(wrong) and sum(f.is_defect for f in seen) >= len(wrong)
    assert not any(f.alarm for f in seen)


def test_an_alarm_of_what_rests_takes_five_inferences(monkeypatch, model, tmp_path):
    path = write(tmp_path / "a.avi", [100] * 60)
    for rate, fresh in ((0, [0, 1, 2, 3, 4]), (5, [0, 5, 10, 15, 20])):
        detector = edge.load(model)
        judge = detector.judge
        monkeypatch.setattr(
            detector, "judge", lambda *given, judge=judge: dataclasses.replace(judge(*given), is_defect=True)
        )
        with edge.stream(detector, path, motion=4, rate=rate) as frames:
            seen = list(frames)
        assert [f.index for f in seen if f.fresh] == fresh
        assert [f.alarm for f in seen] == [False] * fresh[-1] + [True] * (60 - fresh[-1])
        assert frames.counts["inferred"] == 5


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch, model, tmp_path):
    path = write(tmp_path / "a.avi", [9] * 50)
    detector = edge.load(model)
    monkeypatch.setattr(detector, "judge", lambda *_: (_ for _ in ()).throw(UserError("broke")))
    frames = edge.stream(detector, path)
    with frames, pytest.raises(UserError, match="broke"):
        list(frames)
    assert not any(thread.is_alive() for thread in frames._threads)


def test_a_stream_can_be_left_early(model, tmp_path):
    path = write(tmp_path / "a.avi", [9] * 50)
    with edge.stream(model, path, loop=True) as frames:
        for frame in frames:
            if frame.index == 120:
                break
    counts = frames.counts
    assert counts["in"] == counts["out"] + counts["dropped"] and counts["out"] == 121
    assert not any(thread.is_alive() for thread in frames._threads)


def test_a_network_stream_that_vanishes_comes_back(monkeypatch, model):
    """A real MJPEG stream over HTTP: the server hangs up after some frames, twice."""
    monkeypatch.setattr(source, "BACKOFF", (0.05, 0.1))
    picture = cv2.imencode(".jpg", random.integers(0, 255, (48, 64, 3), dtype=np.uint8))[1].tobytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            self.end_headers()
            for _ in range(30):
                self.wfile.write(b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture))
                self.wfile.write(picture + b"\r\n")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with edge.stream(model, f"http://127.0.0.1:{server.server_port}/camera") as frames:
            for _ in frames:
                if frames.counts["reconnects"] >= 2 and frames.counts["in"] > 60:
                    frames.stop()
    finally:
        server.shutdown()
    counts = frames.counts
    assert counts["in"] > 60 and counts["in"] == counts["out"] + counts["dropped"]


# the command


def test_video_command(model, tmp_path, capsys):
    path = write(tmp_path / "a.avi", [0, 200] * 20)
    out = tmp_path / "out.mp4"
    assert main(["video", str(model), str(path), "--output", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["ended_by"] == "end of video" and summary["frames"]["in"] == summary["frames"]["out"] == 40
    assert summary["defect_frames"] == 20 and summary["alarms"] == 0
    assert summary["output"]["written"] == len(values(out)) == 40 and summary["privacy"] is None
    assert main(["video", str(model), str(path), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(r["frame"]) for r in rows] == list(range(40))
    assert sum(r["verdict"] == "defect" for r in rows) == summary["defect_frames"]
    assert main(["video", str(model), str(path)]) == 0
    assert "frames" in capsys.readouterr().out


@pytest.mark.parametrize("size", [(300, 33), (301, 201)])
def test_a_video_of_odd_sides(model, tmp_path, size):
    path, out = write(tmp_path / "a.avi", [9] * 10, size), tmp_path / "out.mp4"
    assert main(["video", str(model), str(path), "--output", str(out)]) == 0
    assert len(values(out)) == 10


def test_segments(model, tmp_path, capsys):
    path = write(tmp_path / "a.avi", range(0, 200, 4))
    command = ["video", str(model), str(path), "--output", str(tmp_path / "out.mp4"), "--segment", str(20 / 25 / 60)]
    assert main(command) == 0
    files = sorted(tmp_path.glob("out*.mp4"))
    assert [f.name for f in files] == [f"out-000{i}.mp4" for i in range(3)]
    assert [len(values(f)) for f in files] == [20, 20, 10]


def test_seconds_end_a_run_in_which_no_frame_comes(model, tmp_path, capsys):
    with Writer(tmp_path / "a.mp4", 25, True) as writer:
        for picture in random.integers(0, 255, (3, 48, 64, 3), dtype=np.uint8):
            writer.put(picture)
    path = retime(tmp_path / "a.mp4", [0.04, 3600, 0.04])
    start = time.monotonic()
    assert main(["video", str(model), str(path), "--realtime", "--seconds", "0.5", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["ended_by"] == "--seconds" and 0.4 < time.monotonic() - start < 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_a_playable_file(model, tmp_path, number):
    path, out = write(tmp_path / "a.avi", range(0, 200, 4)), tmp_path / "out.mp4"
    command = [sys.executable, "-m", "edge", "video", model, path, "--loop", "--realtime", "--json", "--output", out]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not out.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    summary = json.loads(printed)
    assert process.returncode == 0 and summary["ended_by"] == number.name
    frames = summary["frames"]
    assert frames["in"] == frames["out"] + frames["dropped"] > 0
    assert len(values(out)) == summary["output"]["written"] == frames["out"] - summary["output"]["dropped"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{tmp}/none.mp4"], "none.mp4: no such video file"),
        (["{video}", "--output", "{tmp}/a.txt"], "must end in .mp4 or .avi"),
        (["{video}", "--output", "{tmp}/no/a.mp4"], "the folder {tmp}/no does not exist"),
        (["{video}", "--output", "{video}"], "is an input"),
        (["{video}", "--rate", "-1"], "--rate -1: must not be negative"),
        (["{video}", "--steady", "0"], "--steady 0: must be at least 1"),
        (["{video}", "--truth", "{tmp}/none.csv"], "none.csv: can't be read"),
        (["{video}", "--truth", "{video}"], "not a truth file"),
        (["{video}", "--show"], "--show: this OpenCV has no window"),
    ],
)
def test_wrong_arguments_are_one_line(model, tmp_path, capfd, monkeypatch, arguments, message):
    def no_window(*_):
        raise cv2.error("The function is not implemented.")

    monkeypatch.setattr(video.cv2, "imshow", no_window)
    names = {"tmp": tmp_path, "video": write(tmp_path / "in.avi", [9] * 5)}
    assert main(["video", str(model), *(a.format(**names) for a in arguments)]) == 1
    out, err = capfd.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert out == "" and len(errors) == 1 and message.format(**names) in errors[0] and "Traceback" not in err


def test_stream_takes_a_source(model, tmp_path):
    """The parts fit together without the command: any source."""
    reader = Source(write(tmp_path / "a.avi", [9] * 10))
    with Stream(edge.load(model), reader, steady=1) as frames:
        assert all(f.alarm == f.is_defect for f in frames)
