"""Objects of a frame: YOLOX through the model folder against YOLOX's own way of decoding, MoveNet, moving blobs."""

import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import one_line

from edge.__main__ import main
from edge.errors import UserError
from edge.watch.adopt import COCO, adopt
from edge.watch.models import TaskModel, open_task
from edge.watch.objects import MOTION, Blobs, Yolox
from edge.watch.poses import MoveNet, square
from edge.watch.tracker import Track

NANO = "weights/yolox_nano/yolox_nano"
LIGHTNING = "data/edgetpu_pairs/movenet_single_pose_lightning_ptq.tflite"


@pytest.fixture(scope="module")
def folders(assets, tmp_path_factory):
    """Model folders of YOLOX-nano (ONNX and TFLite) and of MoveNet."""
    folder = tmp_path_factory.mktemp("models")
    adopt("yolox", assets / f"{NANO}.onnx", folder / "onnx")
    adopt("yolox", assets / f"{NANO}_float16_quantize.tflite", folder / "tflite")
    adopt("movenet", assets / LIGHTNING, folder / "pose")
    return folder


def frame_of(path, number):
    capture = cv2.VideoCapture(str(path))
    for _ in range(number):
        capture.grab()
    return cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)


def demo(session, image, least=0.3, overlap=0.45):
    """What YOLOX's own ONNX demo does: letterbox, grids, OpenCV's suppression; boxes in pixels, by class."""
    ratio = min(416 / image.shape[0], 416 / image.shape[1])
    size = int(image.shape[1] * ratio), int(image.shape[0] * ratio)
    padded = np.full((416, 416, 3), 114, np.uint8)
    padded[: size[1], : size[0]] = cv2.resize(image[..., ::-1], size, interpolation=cv2.INTER_AREA)
    (output,) = session.run(None, {"images": padded.transpose(2, 0, 1)[None].astype(np.float32)})
    row, found = 0, []
    for stride in (8, 16, 32):
        for y in range(416 // stride):
            for x in range(416 // stride):
                values = output[0, row]
                row += 1
                cx, cy = (values[0] + x) * stride, (values[1] + y) * stride
                w, h = np.exp(values[2]) * stride, np.exp(values[3]) * stride
                scores = values[4] * values[5:]
                if scores.max() >= least:
                    found.append((scores.argmax(), scores.max(), (cx - w / 2, cy - h / 2, w, h)))
    kept = []
    for label in {found[0] for found in found}:
        rows = [row for row in found if row[0] == label]
        chosen = cv2.dnn.NMSBoxes([list(map(float, r[2])) for r in rows], [float(r[1]) for r in rows], least, overlap)
        kept += [(COCO[label], rows[i][1], np.array(rows[i][2]) / ratio) for i in np.ravel(chosen)]
    return kept


@pytest.mark.assets
@pytest.mark.parametrize("number", [0, 300])
def test_yolox_is_what_its_demo_finds(assets, folders, number):
    import onnxruntime

    image = frame_of(assets / "data/scenes/vtest.avi", number)
    session = onnxruntime.InferenceSession(str(assets / f"{NANO}.onnx"), providers=["CPUExecutionProvider"])
    expected = sorted(demo(session, image), key=lambda row: -row[1])
    finder = Yolox(TaskModel(open_task(folders / "onnx", "detection")))
    found = [detection for detection in finder(image) if detection.sure]
    assert [d.label for d in found].count("person") >= 4
    assert len(found) == len(expected)
    for detection, (label, score, (x, y, w, h)) in zip(found, expected, strict=True):
        assert detection.label == label and detection.score == pytest.approx(score, abs=1e-4)
        box = np.clip([x / 768, y / 576, (x + w) / 768, (y + h) / 576], 0, 1)
        assert np.allclose(detection.box, box, atol=1e-3)


@pytest.mark.assets
def test_the_tflite_file_finds_the_same(assets, folders):
    image = frame_of(assets / "data/scenes/vtest.avi", 100)
    a, b = (
        [d for d in Yolox(TaskModel(open_task(folders / name, "detection")))(image) if d.score > 0.4]
        for name in ("onnx", "tflite")
    )
    assert [d.label for d in a] == [d.label for d in b]
    assert all(np.allclose(p.box, q.box, atol=0.01) for p, q in zip(a, b, strict=True))


@pytest.mark.assets
def test_movenet_sees_who_stands(assets, folders):
    """In the first frames of this (AI-generated) clip a man stands beside a bed."""
    image = frame_of(assets / "data/scenes/falls/not_mage_geton_002.mp4", 3)
    person = max(
        (d for d in Yolox(TaskModel(open_task(folders / "onnx", "detection")))(image) if d.label == "person"),
        key=lambda d: d.score,
    )
    pose = MoveNet(TaskModel(open_task(folders / "pose", "pose")))(image, Track(1, "person", 0.9, person.box, 0, 0))
    assert pose.angle < 20
    nose, hips, ankles = pose.points[0, 1], pose.points[11:13, 1].mean(), pose.points[15:17, 1].mean()
    assert person.box[1] - 0.03 < nose < hips < ankles < person.box[3] + 0.03
    assert (pose.points[:, 2] > 0.3).sum() >= 13
    assert person.box[0] - 0.03 < pose.points[:, 0].min() and pose.points[:, 0].max() < person.box[2] + 0.03


@pytest.mark.parametrize("box", [(0.4, 0.2, 0.5, 0.8), (0.0, 0.0, 1.0, 1.0), (0.9, 0.5, 1.0, 1.0), (0.1,) * 4])
def test_the_square_holds_the_box_in_its_middle(box):
    left, top, side = square(box, 800, 400)
    assert abs(left + side / 2 - 400 * (box[0] + box[2])) <= 1 and abs(top + side / 2 - 200 * (box[1] + box[3])) <= 1
    assert side >= 1.49 * max(800 * (box[2] - box[0]), 400 * (box[3] - box[1])) and side >= 8


def blob_frame(x, rng, light=0):
    image = np.clip(rng.normal(100 + light, 3, (120, 160, 3)), 0, 255).astype(np.uint8)
    if x is not None:
        image[40:90, x : x + 20] = 220
    return image


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("turned", [False, True])
def test_boxes_and_scores_of_an_int8_file(classes, turned):
    """Both parts have four columns with three classes: then their order says which is which."""
    count = 16 + 4 + 1  # cells of a 32 x 32 input
    boxes, scores = np.zeros((1, count, 4), np.float32), np.zeros((1, count, 1 + classes), np.float32)
    boxes[0, 5], scores[0, 5, :2] = (0.5, 0.5, 0, 0), (1, 0.9)  # a stride around the middle of the second row's second
    parts = [scores, boxes] if turned and classes != 3 else [boxes, scores]
    spec = SimpleNamespace(height=32, width=32)
    info = SimpleNamespace(path="m", input=spec, classes=tuple("abcd"[:classes]), score=0.3, overlap=0.45)
    runtime = SimpleNamespace(outputs=[SimpleNamespace(shape=part.shape) for part in parts])
    model = SimpleNamespace(info=info, runtime=runtime, run=lambda frame: (parts, (1.0, 1.0)))
    (found,) = Yolox(model)(np.zeros((32, 32, 3), np.uint8))
    assert found.label == "a" and found.score == pytest.approx(0.9)
    assert found.box == pytest.approx((0.25, 0.25, 0.5, 0.5))


def test_blobs_follow_what_moves():
    rng, blobs = np.random.default_rng(0), Blobs()
    for _ in range(30):
        assert blobs(blob_frame(None, rng)) == []
    for x in range(10, 110, 4):
        (found,) = blobs(blob_frame(x, rng))
        assert found.label == MOTION
        assert np.allclose(found.box, (x / 160, 40 / 120, (x + 20) / 160, 90 / 120), atol=0.06)


def test_blobs_of_another_size_and_of_the_light():
    rng, blobs = np.random.default_rng(0), Blobs()
    for _ in range(30):
        blobs(blob_frame(None, rng))
    assert blobs(blob_frame(None, rng, light=80)) == []  # the whole frame changes
    assert blobs(blob_frame(20, rng), 0.5) == []  # the background of another size is not known yet
    for _ in range(30):
        blobs(blob_frame(None, rng), 0.5)
    assert len(blobs(blob_frame(60, rng), 0.5)) == 1


@pytest.mark.assets
def test_the_command_makes_a_folder(assets, here, capsys):
    assert main(["adopt", "yolox", str(assets / f"{NANO}.onnx"), "people"]) == 0
    assert capsys.readouterr().out == "people: a model folder of task detection\n"
    raw = json.loads((here / "people/model.json").read_text())
    assert raw["classes"][0] == "person" and len(raw["classes"]) == 80 and raw["input"]["layout"] == "nchw"
    assert main(["predict", "people", "x.png"]) == 1
    assert "task = 'detection': must be 'anomaly'" in capsys.readouterr().err


@pytest.mark.assets
@pytest.mark.parametrize(
    "kind, file, message",
    [
        ("movenet", f"{NANO}.onnx", "but MoveNet gives [1, 1, 17, 3]"),
        ("yolox", LIGHTNING, "but YOLOX of this input and 80 classes gives [1, 756, 85]"),
        ("yolox", "data/scenes/vtest.avi", "must end in .onnx or .tflite"),
        ("yolox", "weights/yolox_nano/nothing.onnx", "no such file"),
    ],
)
def test_what_can_t_be_adopted(assets, here, capsys, kind, file, message):
    assert main(["adopt", kind, str(assets / file), "folder"]) == 1
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith(f"error: {assets / file}: ") and message in err
    assert list(here.iterdir()) == []


@pytest.mark.assets
@pytest.mark.parametrize(
    "key, value, message",
    [
        ("task", "magic", "task = 'magic': must be 'detection' or 'pose'"),
        ("decode", "ssd", "decode = 'ssd': must be 'yolox'"),
        ("classes", [], "classes = []: must be a name or a list"),
        ("classes", ["a"], "and 1 classes gives [1, 3549, 6]"),
        ("score", 2, "score = 2: must be a finite number of at least 0 and at most 1"),
        ("input", None, "input = None: must be an object"),
        ("file", "other.onnx", "file = 'other.onnx': must be the name of a file in the model folder"),
        ("more", 1, "more: unknown field"),
    ],
)
def test_a_wrong_model_json_is_one_line(folders, tmp_path, key, value, message):
    shutil.copytree(folders / "onnx", tmp_path / "m")
    raw = json.loads((tmp_path / "m/model.json").read_text())
    (tmp_path / "m/model.json").write_text(json.dumps({**raw, key: value}))
    with pytest.raises(UserError) as caught:
        Yolox(TaskModel(open_task(tmp_path / "m", "detection")))
    assert message in one_line(caught)
