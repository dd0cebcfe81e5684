"""`evaluate` on a one-operator ONNX model whose map is the brightness of the picture."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge.errors import UserError
from edge.inference.modelfile import write_model
from stages.common import dataset
from stages.evaluate.__main__ import run
from stages.evaluate.masks import shrink

SIZE = 32
PARAMS = SimpleNamespace(threads=1, evaluate=SimpleNamespace(aupro_fpr_limit=0.3))


def brightness_model(folder):
    """A model folder: the map is the mean of the three channels."""
    folder.mkdir(parents=True)
    node = helper.make_node("ReduceMean", ["image"], ["map"], axes=[1], keepdims=1)
    graph = helper.make_graph(
        [node],
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 1, SIZE, SIZE])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), folder / "m.onnx")
    side = {"height": SIZE, "width": SIZE}
    float32 = {"dtype": "float32", "scale": 1.0, "zero_point": 0}
    axes = {"color": "rgb", "frames": 1, "step": 1, "resize": "stretch", "layout": "nchw"}
    write_model(
        folder,
        {
            "task": "anomaly",
            "name": "bright",
            "file": "m.onnx",
            "format": "onnx",
            "input": {**side, **axes, **float32, "scale": 1 / 255},
            "outputs": [{**side, **float32, "name": "map", "meaning": "map", "channels": 1}],
            "score": {"rule": "max", "smooth": 1, "sigma": 0},
            "threshold": {"value": 0.6, "method": "chosen for the test"},
            "quantization": None,
            "cost": {"params": 0, "macs": 3 * SIZE * SIZE},
            "made_by": {},
        },
    )


def write_test_split(with_masks=True, defects=("spot", "scratch")):
    """Two dark good pictures and per defect type one with a bright square; the index as `fetch` writes it."""
    folder = dataset.Path("data/test")
    folder.mkdir(parents=True)
    items = []
    for i, defect in enumerate(["good", "good", *defects]):
        image, mask = np.full((64, 96, 3), 60, np.uint8), np.zeros((64, 96), np.uint8)
        if defect != "good":
            mask[10 : 30 + i, 20:50] = 255
            image[mask > 0] = 230
        cv2.imwrite(str(folder / f"{i}.png"), image)
        mask_name = f"{i}_mask.png" if with_masks and defect != "good" else ""
        if mask_name:
            cv2.imwrite(str(folder / mask_name), mask)
        digest = dataset.sha256(folder / f"{i}.png")
        items.append(dataset.Item(f"{i}.png", "test", int(defect != "good"), defect, mask_name, digest, str(i)))
    dataset.write_index(folder, items)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    brightness_model(tmp_path / "artifacts/models/bright")


def result():
    return json.loads(dataset.Path("artifacts/eval/bright.json").read_text())


def test_bright_defects_are_found(workplace):
    write_test_split()
    run(PARAMS, "bright")
    found = result()
    assert found["image_auroc"] == found["average_precision"] == found["f1"] == 1.0
    assert found["pixel_auroc"] > 0.99 and found["aupro"] > 0.95
    assert found["per_defect"] == {"scratch": 1.0, "spot": 1.0}
    assert found["images"] == {"good": 2, "defect": 2} and found["masks"] == 2
    assert found["threshold"] == 0.6 and found["how"] == "measured" and "onnxruntime" in found["runtime"]
    with np.load("artifacts/eval/bright.npz", allow_pickle=False) as kept:
        assert kept["map"].shape == (4, SIZE, SIZE) and kept["map"].dtype == np.float16
        assert kept["defect"].tolist() == ["good", "good", "spot", "scratch"]
        assert kept["score"][:2].max() < 0.6 < kept["score"][2:].min()
    first = [dataset.sha256(dataset.Path(f"artifacts/eval/bright.{end}")) for end in ("json", "npz")]
    run(PARAMS, "bright")
    assert first == [dataset.sha256(dataset.Path(f"artifacts/eval/bright.{end}")) for end in ("json", "npz")]


def test_without_masks_the_pixel_metrics_are_absent(workplace):
    write_test_split(with_masks=False)
    run(PARAMS, "bright")
    found = result()
    assert found["pixel_auroc"] is None and found["aupro"] is None and found["masks"] == 0
    assert found["image_auroc"] == 1.0


def test_good_pictures_alone_have_no_accuracy(workplace):
    write_test_split(defects=())
    run(PARAMS, "bright")
    found = result()
    assert found["image_auroc"] is found["f1"] is found["aupro"] is None and found["per_defect"] == {}


def test_what_a_user_can_cause_is_one_line(workplace):
    with pytest.raises(UserError, match=r"index\.csv: not found"):
        run(PARAMS, "bright")
    write_test_split()
    with pytest.raises(UserError, match="no such model folder"):
        run(PARAMS, "absent")
    dataset.Path("data/test/2_mask.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"2_mask\.png"):
        run(PARAMS, "bright")


def test_no_region_vanishes_when_a_mask_shrinks():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = np.zeros((500, 333), bool)
        mask[rng.integers(500), rng.integers(333)] = True
        assert 1 <= shrink(mask, 64, 64).sum() <= 4
    big = np.zeros((30, 20), bool)
    big[3:5, 4] = True
    assert shrink(big, 60, 40).sum() == 8 and (shrink(big, 30, 20) == big).all()
