"""Clips on the device: streaming equals batch to the bit, start-up and gaps are said, a score from 0 to 1."""

import csv
import io
import json

import cv2
import numpy as np
import pytest
import tiny_models
from test_edge_samples import FRAMES, clips, frames, memory  # noqa: F401 (fixtures)

import edge
from edge.__main__ import main
from edge.app.trigger import Continuity
from edge.inference import scoring
from edge.inference.modelinfo import parse
from edge.preprocess import Ring, resize, to_grey
from stages.common.dataset import Item, Samples, sha256, write_index


def test_streaming_equals_batch_to_the_bit(clips, here):  # noqa: F811
    """The frames of a video file through `edge.stream`, and as pictures through the samples that `evaluate` reads."""
    shown = frames(30, 48, 64)
    writer = cv2.VideoWriter("in.avi", cv2.VideoWriter_fourcc(*"FFV1"), 25, (64, 48))
    items = []
    for i, picture in enumerate(shown):
        writer.write(picture[..., ::-1])
        cv2.imwrite(f"{i:03d}.png", picture[..., ::-1])
        items.append(Item(f"{i:03d}.png", "test", 0, "good", "", sha256(here / f"{i:03d}.png"), "a", "a", i))
    writer.release()
    write_index(here, items)
    detector = edge.load(clips)
    read = Samples(here, detector.info.input)
    batch = [detector.judge(read(item)) for item in items]
    with edge.stream(detector, "in.avi") as live:
        found = list(live)
    assert len(found) == 30
    for one, wanted in zip(found, batch, strict=True):
        assert one.score == wanted.score and np.array_equal(one.prediction.raw_map, wanted.raw_map)
    span = (FRAMES - 1) * 3 + 1
    assert [one.clip for one in found] == ["starting"] * (span - 1) + ["whole"] * (30 - span + 1)
    assert live.counts["starting"] == span - 1 and live.counts["with_gap"] == 0


def test_each_frame_is_resized_once(clips, here, monkeypatch):  # noqa: F811
    seen = []
    monkeypatch.setattr("edge.geometry.resize", lambda *a: seen.append(a[0].shape) or resize(*a))
    writer = cv2.VideoWriter("in.avi", cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for picture in frames(20, 48, 64):
        writer.write(picture)
    writer.release()
    with edge.stream(edge.load(clips), "in.avi") as live:
        list(live)
    assert seen == [(48, 64)] * 20


class Scripted:
    """A source of frames with given numbers and times."""

    def __init__(self, notes):
        self.notes, self.counts, self.where = notes, {"in": len(notes), "withheld": 0}, "scripted"
        self.realtime, self.live, self.fps, self.frame_bytes = False, False, 25.0, 1000

    def frames(self, stop):
        for index, seconds in self.notes:
            yield index, seconds, frames(1, 20, 20)[0]


def test_gaps_are_said_and_a_pause_begins_anew(clips):  # noqa: F811
    span = (FRAMES - 1) * 3 + 1
    notes = [(i, i / 25) for i in range(span + 2)]
    notes += [(i + 2, (i + 2) / 25) for i in range(span + 2, 2 * span + 4)]  # two frames lost
    last = notes[-1]
    notes += [(last[0] + 1 + i, last[1] + 9 + i / 25) for i in range(3)]  # nine seconds without a frame
    stream = edge.app.stream.Stream(edge.load(clips), Scripted(notes))
    states = [frame.clip for frame in stream]
    wanted = ["starting"] * (span - 1) + ["whole"] * 3 + ["gap"] * (span - 1) + ["whole"] * 3 + ["starting"] * 3
    assert states == wanted
    assert stream.counts["starting"] == span + 2 and stream.counts["with_gap"] == span - 1


def test_a_ring_that_was_cleared_starts_again():
    ring = Ring(3, 2)
    for value in range(6):
        ring.push(np.full((1, 1), value))
        assert ring.filled == (value >= 4)
    ring.clear()
    ring.push(np.full((1, 1), 9))
    assert not ring.filled and ring.sample().ravel().tolist() == [9, 9, 9]


def test_continuity_by_hand():
    whole = Continuity(3, 1.0)
    found = [(whole.see(i, t), whole.state) for i, t in ((0, 0), (1, 0.1), (3, 0.3), (4, 0.4), (5, 0.5), (6, 2.0))]
    assert found == [
        (False, "whole"), (False, "whole"), (False, "gap"), (False, "gap"), (False, "whole"), (True, "whole"),
    ]  # fmt: skip


def test_a_calibrated_score_is_a_half_at_the_threshold():
    assert scoring.calibrated(3.0, 3.0, 1.0) == 0.5
    assert scoring.calibrated(1.0, 3.0, 1.0) == pytest.approx(0.05)
    assert scoring.calibrated(5.0, 3.0, 1.0) == pytest.approx(0.95)
    scores = np.linspace(-50, 50, 101)
    found = [scoring.calibrated(score, 3.0, 1.0) for score in scores]
    assert np.all(np.diff(found) >= 0) and min(found) >= 0 and max(found) <= 1
    for threshold, median in ((0.0, None), (-2.0, None), (2.0, 2.0), (1e-300, None), (1e300, -1e300)):
        assert scoring.calibrated(threshold, threshold, median) == 0.5
        assert 0 <= scoring.calibrated(1e308, threshold, median) <= 1


def test_the_median_is_a_field_of_the_model(tmp_path):
    info = tiny_models.describe("model.onnx", "onnx", "float32", "nchw", None)
    info |= {"schema": 2, "files": {"model.onnx": "0" * 64}}
    assert parse(tmp_path, info).median is None  # as folders have it that were made before
    threshold = info["threshold"] | {"median": 0.25}
    assert parse(tmp_path, info | {"threshold": threshold}).median == 0.25


def test_rows_of_a_video_have_both(clips, here, capsys):  # noqa: F811
    writer = cv2.VideoWriter("in.avi", cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for picture in frames(14, 48, 64):
        writer.write(picture)
    writer.release()
    assert main(["video", str(clips), "in.avi", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    threshold = edge.load(clips).info.threshold
    assert {row["clip"] for row in rows} == {"starting", "whole"}
    for row in rows:
        assert (float(row["calibrated"]) > 0.5) == (float(row["score"]) > threshold) == (row["verdict"] == "defect")
    assert main(["video", str(clips), "in.avi", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"]["starting"] == 9


def test_pictures_have_no_clip(here):
    stream = edge.app.stream.Stream(edge.load(tiny_models.build() / "int8"), Scripted([(0, 0.0), (5, 9.0)]))
    assert [frame.clip for frame in stream] == ["", ""] and "starting" not in stream.counts


def test_a_still_picture_is_a_clip_that_stands_still(clips):  # noqa: F811
    ring, picture = Ring(FRAMES, 3), frames(1)[0]
    for _ in range(20):
        ring.push(to_grey(picture))
    assert edge.load(clips).judge(ring.sample()).score == 0  # of a model of change
