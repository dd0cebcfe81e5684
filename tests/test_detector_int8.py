"""A published detector as int8: what of the float file's detections it finds; and how that is counted."""

import json

import cv2
import numpy as np
import pytest
import tiny_models
from conftest import one_line

from edge.errors import UserError
from edge.watch.adopt import adopt
from edge.watch.models import TaskModel, open_task
from edge.watch.tracker import Detection
from experiments import detector
from experiments.__main__ import main
from experiments.detector import Tally, frames, same
from experiments.detector_int8 import split

NANO = "weights/yolox_nano/yolox_nano.onnx"


def box(label, score, x, width=0.1):
    return Detection(label, score, (x, 0.1, x + width, 0.3))


def test_pairs_are_of_one_class_and_each_box_is_taken_once():
    wanted = [box("person", 0.9, 0.1), box("car", 0.9, 0.5)]
    found = [box("person", 0.6, 0.11), box("person", 0.6, 0.1), box("person", 0.6, 0.5), box("car", 0.3, 0.56)]
    assert [(i, j) for i, j, _ in same(wanted, found)] == [(0, 1)]  # and the car overlaps by a quarter
    assert same(wanted, []) == same([], found) == []
    assert same(wanted, found)[0][2] == pytest.approx(1)


def test_what_is_counted():
    tally = Tally(0.3)
    exact = [box("person", 0.9, 0.1), box("person", 0.55, 0.4), box("person", 0.35, 0.7), box("car", 0.6, 0.9)]
    int8 = [box("person", 0.8, 0.1), box("person", 0.4, 0.4), box("person", 0.6, 0.7), box("dog", 0.7, 0.2)]
    tally.add(exact, int8)
    found = tally.record()
    assert found["classes"]["person"] == {"wanted": 2, "found": 2, "strict": 1, "int8": 2, "false": 0}
    assert found["classes"]["car"] == {"wanted": 1, "found": 0, "strict": 0, "int8": 0, "false": 0}
    assert found["classes"]["dog"] == {"wanted": 0, "found": 0, "strict": 0, "int8": 1, "false": 1}
    assert found["all"] == {"wanted": 3, "found": 2, "strict": 1, "int8": 3, "false": 1}
    assert found["frames"] == 1 and found["mean_iou"] == 1


def film(path):
    """Twenty grey frames."""
    file = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for value in range(20):
        file.write(np.full((48, 64, 3), 10 * value, np.uint8))
    file.release()


def test_parts_of_a_video(here):
    film("in.avi")
    assert [round(frame.mean() / 10) for frame in frames("in.avi:0.5:1:4")] == [12, 16]
    assert len(list(frames("in.avi:0:1:1"))) == 20


@pytest.mark.parametrize(
    "words, message",
    [
        (["no.onnx", "out", "--calibrate", "no.jpg", "--test", "x.jpg"], "no.jpg: no such file"),
        (["no.tflite", "out", "--calibrate", "x.jpg", "--test", "x.jpg"], "no.tflite: must be an .onnx file"),
        (["no.onnx", "here", "--calibrate", "x.jpg", "--test", "x.jpg"], "here: exists"),
        (["no.onnx", "out", "--calibrate", "x.avi", "--test", "x.jpg"], "x.avi: a video needs FILE:FROM:TO:STEP"),
        (["no.onnx", "out", "--calibrate", "x.avi:1:0:2", "--test", "x.jpg"], "x.avi:1:0:2: a video needs"),
        (["no.onnx", "out", "--calibrate", "x.jpg", "--test", "x.jpg"], "no.onnx: no such file"),
        (["no.onnx", "out", "--calibrate", "v.avi:0.1:0.2:9", "--test", "x.jpg"], "v.avi:0.1:0.2:9: has no frames"),
        (["no.onnx", "out", "--calibrate", "x.jpg", "--test", "x.jpg", "--output", "x.jpg/y"], "x.jpg is no folder"),
        (["no.onnx", "out", "--calibrate", "x.jpg", "--test", "x.jpg", "--output", "here"], "here: is a folder"),
    ],
)
def test_what_is_wrong_is_one_line(here, capsys, words, message):
    (here / "here").mkdir()
    cv2.imwrite("x.jpg", np.zeros((40, 40, 3), np.uint8))
    (here / "x.avi").write_bytes(b"x")
    film("v.avi")
    with pytest.raises(SystemExit) as caught:
        main(["detector", *words])
    err = capsys.readouterr().err
    assert caught.value.code == 1 and message in err and err.count("\n") == 1 and not (here / "out").exists()


def test_another_network_is_refused(tmp_path):
    tiny_models.build_onnx(tmp_path / "tiny.onnx")
    with pytest.raises(UserError) as caught:
        split(tmp_path / "tiny.onnx")
    assert "outputs; a published YOLOX file has one" in one_line(caught)


@pytest.mark.assets
@pytest.mark.slow
def test_int8_finds_what_float_finds(assets, here, capsys):
    """Calibrated on three pictures of the first half of a video, and compared on the second."""
    video = assets / "data/scenes/vtest.avi"
    main(["detector", str(assets / NANO), "int8", "--calibrate", f"{video}:0:0.5:133", "--test", f"{video}:0.5:1:100",
          "--output", "watch/detector.json"])  # fmt: skip
    record = json.loads((here / "watch/detector.json").read_text())
    (test,) = record["tests"].values()
    assert record["calibrated"]["pictures"] == 3 and test["frames"] == 4 and test["all"]["wanted"] >= 15
    assert test["all"]["found"] >= 0.8 * test["all"]["wanted"] and test["all"]["false"] <= 0.1 * test["all"]["int8"]
    assert test["mean_iou"] > 0.8 and record["bytes"]["int8"] < record["bytes"]["float"] / 2
    assert "| **all** |" in detector.markdown(here / "watch")
    info = open_task("int8", "detection")
    assert (info.input.dtype, info.input.mean, info.input.scale) == ("int8", 128, 1)
    # against the float network's own values: a box where the score is high
    adopt("yolox", assets / NANO, here / "float")
    image = next(frames(f"{video}:0.5:1:100"))
    (output,), _ = TaskModel(open_task("float", "detection")).run(image)
    outputs, _ = TaskModel(info).run(image)
    boxes, scores = sorted(outputs, key=lambda part: part.shape[2])
    likely = output[0, :, 4] > 0.5
    assert np.abs(scores[0, likely, 0] - output[0, likely, 4]).mean() < 0.15
    assert np.abs(boxes[0, likely] - output[0, likely, :4]).mean() < 0.15
