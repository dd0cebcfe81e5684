"""Clips on the device: streaming equals batch to the bit, start-up and gaps are said, a score from 0 to 1."""

import csv
import io
import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tiny_models
from conftest import one_line
from test_edge_samples import FRAMES, SIZE, clips, expected_maps, frames, memory  # noqa: F401 (fixtures)

import edge
from edge.__main__ import main
from edge.app.trigger import Continuity
from edge.errors import ModelError
from edge.inference import scoring
from edge.inference.modelfile import write_model
from edge.inference.modelinfo import parse
from edge.preprocess import Ring, resize, to_grey
from stages.common.dataset import Item, Samples, sha256, write_index
from stages.evaluate import __main__ as evaluate


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
    assert ring.sample().ravel().tolist() == [1, 3, 5]
    ring.clear()
    ring.push(np.full((1, 1), 9))
    assert ring.sample().ravel().tolist() == [9, 9, 9]


def test_continuity_by_hand():
    whole = Continuity(3, 1.0)
    notes = (0, 0), (1, 0.1), (3, 0.3), (4, 0.4), (5, 0.5), (6, 2.0), (7, 2.1)
    found = [(whole.see(i, t), whole.begun, whole.state) for i, t in notes]
    assert found == [
        (False, False, "whole"), (False, False, "whole"), (False, True, "gap"), (False, True, "gap"),
        (False, True, "whole"), (True, False, "whole"), (False, False, "whole"),
    ]  # fmt: skip
    whole.see(8, 2.2)
    assert whole.begun
    whole.left_out()
    assert not whole.begun and whole.state == "gap"
    assert [(whole.see(i, i / 10 - 5.8), whole.begun, whole.state) for i in (9, 10, 11)] == [
        (False, True, "gap"), (False, True, "gap"), (False, True, "whole"),
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


# a model with a state: one step a frame


WARMUP = 3


@pytest.fixture(scope="module")
def remembering(memory, tmp_path_factory):  # noqa: F811
    """The model of a fading memory, which sees the first frame WARMUP times more."""
    folder = shutil.copytree(memory, tmp_path_factory.mktemp("remembering") / "model")
    raw = json.loads((folder / "model.json").read_text())
    write_model(folder, {**raw, "warmup": WARMUP})
    return folder


def expected_scores(pictures, warmup=WARMUP):
    """Of a clip of RGB pictures [H, W, 3] of the model's size, by numpy."""
    grey = [to_grey(picture)[..., None] for picture in pictures]
    return [map.max() for map in expected_maps([grey[0]] * warmup + grey)[warmup:]]


def test_a_state_goes_through_a_video_frame_by_frame(remembering, here):
    shown = frames(12)
    writer = cv2.VideoWriter("in.avi", cv2.VideoWriter_fourcc(*"FFV1"), 25, (SIZE, SIZE))
    for picture in shown:
        writer.write(picture[..., ::-1])
    writer.release()
    detector = edge.load(remembering)
    for _ in range(2):  # the second time from a new start
        with edge.stream(detector, "in.avi") as live:
            found = list(live)
        np.testing.assert_allclose([one.score for one in found], expected_scores(shown), atol=1e-5)
        assert [one.clip for one in found] == ["starting"] * WARMUP + ["whole"] * (12 - WARMUP)
        assert live.counts["starting"] == WARMUP


class Shown(Scripted):
    """A source of given pictures."""

    def __init__(self, notes, pictures):
        super().__init__(notes)
        self.pictures = pictures

    def frames(self, stop):
        for (index, seconds), picture in zip(self.notes, self.pictures, strict=True):
            yield index, seconds, picture


def test_a_pause_resets_the_state_and_a_lost_frame_is_said(remembering):
    times = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]  # the fifth is lost
    notes = [(i, i / 25) for i in times] + [(11 + i, 9 + i / 25) for i in range(5)]
    shown = frames(len(notes))
    stream = edge.app.stream.Stream(edge.load(remembering), Shown(notes, shown))
    found = list(stream)
    wanted = expected_scores(shown[:10]) + expected_scores(shown[10:])
    np.testing.assert_allclose([one.score for one in found], wanted, atol=1e-5)
    states = ["starting"] * 3 + ["whole"] * 2 + ["gap"] * 3 + ["whole"] * 2 + ["starting"] * 3 + ["whole"] * 2
    assert [one.clip for one in found] == states
    assert stream.counts["starting"] == 6 and stream.counts["with_gap"] == 3


def test_a_frame_that_is_spared_is_a_gap_of_the_state(remembering):
    notes, shown = [(i, i / 25) for i in range(12)], frames(12)
    stream = edge.app.stream.Stream(edge.load(remembering), Shown(notes, shown), rate=12.5)
    found = list(stream)
    assert [one.fresh for one in found] == [i % 2 == 0 for i in range(12)]
    fresh = [one.score for one in found if one.fresh]
    np.testing.assert_allclose(fresh, expected_scores(shown[::2]), atol=1e-5)
    assert {one.clip for one in found} == {"starting", "gap"}


def test_each_camera_has_a_state_of_its_own(remembering):
    notes, shown = [(i, i / 25) for i in range(9)], (frames(9), frames(9))
    both = [edge.app.stream.Stream(edge.load(remembering), Shown(notes, pictures)) for pictures in shown]
    for stream, pictures in zip(both, shown, strict=True):
        np.testing.assert_allclose([one.score for one in stream], expected_scores(pictures), atol=1e-5)


@pytest.mark.parametrize("value", [-1, 256, 1.5, "3"])
def test_a_warm_up_is_a_small_whole_number(remembering, tmp_path, value):
    folder = shutil.copytree(remembering, tmp_path / "model")
    raw = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**raw, "warmup": value}))
    with pytest.raises(ModelError, match=r"warmup = .*must be a whole number of at least 0") as caught:
        edge.load(folder)
    one_line(caught)


def test_a_model_with_a_state_judges_a_picture_as_a_clip_that_stands_still(remembering, here, capsys):
    for i, picture in enumerate(frames(3)):
        cv2.imwrite(f"{i}.png", picture[..., ::-1])
    assert main(["predict", str(remembering), ".", "--csv"]) == 0
    found = [float(row["score"]) for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    wanted = [expected_scores([cv2.imread(f"{i}.png")[..., ::-1]])[0] for i in range(3)]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_evaluate_judges_clips_frame_by_frame(remembering, here):
    """The stage itself on two clips: the state goes on through a clip and begins anew with the next."""
    shown = {"a": frames(9), "b": frames(9)}
    items = []
    for clip, pictures in shown.items():
        for i, picture in enumerate(pictures):
            path = here / f"data/test/{clip}{i:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture[..., ::-1])
            label = int(i > 5)
            items.append(Item(path.name, "test", label, "x" if label else "good", "", sha256(path), clip, clip, i))
    write_index(here / "data/test", items[::-1])
    shutil.copytree(remembering, here / "artifacts/models/memory")
    settings = SimpleNamespace(aupro_fpr_limit=0.3, resolution="full", frames_per_second=25.0)
    evaluate.run(SimpleNamespace(threads=1, evaluate=settings), "memory")
    found = np.load(here / "artifacts/eval/memory.npz")
    wanted = [score for pictures in shown.values() for score in expected_scores(pictures)]
    np.testing.assert_allclose(found["score"], wanted, atol=1e-5)
    assert found["clip"].tolist() == ["a"] * 9 + ["b"] * 9 and found["frame"].tolist() == [*range(9)] * 2
