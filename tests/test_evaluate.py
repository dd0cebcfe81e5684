"""`evaluate` on a one-operator ONNX model whose map is the brightness of the picture."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
from conftest import ROOT
from onnx import TensorProto, helper
from pixel_reference import exact

from edge.errors import UserError
from edge.inference.detector import load
from edge.inference.modelfile import write_model
from stages.common import dataset
from stages.common.masks import iou, shrink
from stages.evaluate.__main__ import run

SIZE = 32


def evaluate(resolution="full", variant="bright"):
    """Runs the stage; returns its record."""
    section = SimpleNamespace(aupro_fpr_limit=0.3, resolution=resolution)
    run(SimpleNamespace(threads=1, evaluate=section), variant)
    return json.loads(dataset.Path(f"artifacts/eval/{variant}.json").read_text())


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


def write_index(pictures):
    """data/test of (image, mask or None, defect), as `fetch` writes it."""
    folder = dataset.Path("data/test")
    folder.mkdir(parents=True)
    items = []
    for i, (image, mask, defect) in enumerate(pictures):
        cv2.imwrite(str(folder / f"{i}.png"), image)
        mask_name = f"{i}_mask.png" if mask is not None else ""
        if mask is not None:
            cv2.imwrite(str(folder / mask_name), mask * np.uint8(255))
        digest = dataset.sha256(folder / f"{i}.png")
        items.append(dataset.Item(f"{i}.png", "test", int(defect != "good"), defect, mask_name, digest, str(i)))
    dataset.write_index(folder, items)


def write_test_split(with_masks=True, defects=("spot", "scratch")):
    """Two dark good pictures and per defect type one with a bright square."""
    pictures = []
    for i, defect in enumerate(["good", "good", *defects]):
        image, mask = np.full((64, 96, 3), 60, np.uint8), np.zeros((64, 96), bool)
        if defect != "good":
            mask[10 : 30 + i, 20:50] = True
            image[mask] = 230
        pictures.append((image, mask if with_masks and defect != "good" else None, defect))
    write_index(pictures)


def scratched(rng, height, width, defect):
    """A cloudy picture with thin bright scratches, and their mask; of a good one the bright lines alone."""
    image = cv2.resize(rng.integers(0, 200, (8, 8, 3)).astype(np.float32), (width, height))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(3):
        ends = [(int(rng.integers(width)), int(rng.integers(height))) for _ in range(2)]
        cv2.line(mask, *ends, 1, 2)
    image[mask > 0] += rng.uniform(5, 60)
    return np.clip(image, 0, 255).astype(np.uint8), None if defect == "good" else mask > 0, defect


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    brightness_model(tmp_path / "artifacts/models/bright")


def test_bright_defects_are_found(workplace):
    write_test_split()
    found = evaluate()
    assert found["image_auroc"] == found["average_precision"] == found["f1"] == 1.0
    assert found["pixel_auroc"] > 0.99 and found["aupro"] > 0.95 and found["iou"] > 0.5
    assert found["per_defect"] == {"scratch": 1.0, "spot": 1.0}
    assert found["images"] == {"good": 2, "defect": 2} and found["masks"] == 2
    assert found["threshold"] == 0.6 and found["how"] == "measured" and "onnxruntime" in found["runtime"]
    with np.load("artifacts/eval/bright.npz", allow_pickle=False) as kept:
        assert kept["map"].shape == (4, SIZE, SIZE) and kept["map"].dtype == np.float16
        assert kept["defect"].tolist() == ["good", "good", "spot", "scratch"]
        assert kept["score"][:2].max() < 0.6 < kept["score"][2:].min()
    first = [dataset.sha256(dataset.Path(f"artifacts/eval/bright.{end}")) for end in ("json", "npz")]
    evaluate()
    assert first == [dataset.sha256(dataset.Path(f"artifacts/eval/bright.{end}")) for end in ("json", "npz")]


def test_the_record_names_its_pictures_and_counts_where_validation_chose_among_thresholds(workplace):
    """Of a supervised detector; both spare the report the pictures and their scores."""
    write_test_split()
    found = evaluate()
    assert found["test_index_sha256"] == hashlib.sha256(dataset.Path("data/test/index.csv").read_bytes()).hexdigest()
    assert "verdicts" not in found
    path = dataset.Path("artifacts/models/bright/model.json")
    info = json.loads(path.read_text())
    info["validation"] = {"auroc": 1.0, "good": 2, "defects": 2, "thresholds": [{"threshold": 0.5}]}
    path.write_text(json.dumps(info))
    rows = {row["threshold"]: row for row in evaluate()["verdicts"]}  # good pictures score 60 / 255, the others 230
    counts = {at: [row[name] for name in ("tp", "fp", "tn", "fn")] for at, row in rows.items()}
    assert counts[0.2] == [2, 2, 0, 0] and counts[0.25] == counts[0.5] == [2, 0, 2, 0] and len(rows) == 9


def test_without_masks_the_pixel_metrics_are_absent(workplace):
    write_test_split(with_masks=False)
    found = evaluate()
    assert found["pixel_auroc"] is None and found["aupro"] is None and found["masks"] == 0
    assert found["image_auroc"] == 1.0 and found["iou"] is None


def test_good_pictures_alone_have_no_accuracy(workplace):
    write_test_split(defects=())
    found = evaluate()
    assert found["image_auroc"] is found["f1"] is found["aupro"] is None and found["per_defect"] == {}


def test_what_a_user_can_cause_is_one_line(workplace):
    with pytest.raises(UserError, match=r"index\.csv: not found"):
        evaluate()
    write_test_split()
    with pytest.raises(UserError, match="no such model folder"):
        evaluate(variant="absent")
    dataset.Path("data/test/2_mask.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"2_mask\.png"):
        evaluate()


def test_no_region_vanishes_when_a_mask_shrinks():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = np.zeros((500, 333), bool)
        mask[rng.integers(500), rng.integers(333)] = True
        assert 1 <= shrink(mask, 64, 64).sum() <= 4
    big = np.zeros((30, 20), bool)
    big[3:5, 4] = True
    assert shrink(big, 60, 40).sum() == 8 and (shrink(big, 30, 20) == big).all()


# resolutions

SIZES = [(227, 105), (403, 632), (30, 700), (1200, 45), (64, 64), (900, 1300)]


def test_full_resolution_is_each_pictures_own(workplace):
    """Maps stretched to the masks as they were drawn, by other code; pictures of very different size."""
    rng = np.random.default_rng(0)
    pictures = [scratched(rng, *size, defect) for size in SIZES for defect in ("good", "scratch")]
    write_index([*pictures, (pictures[0][0], None, "unmarked"), (pictures[2][0], np.zeros(SIZES[1], bool), "empty")])
    found, detector = evaluate(), load("artifacts/models/bright")
    maps = [
        cv2.resize(detector.predict(image[:, :, ::-1]).map, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        for image, *_ in pictures
    ]
    masks = [np.zeros(image.shape[:2], bool) if mask is None else mask for image, mask, _ in pictures]
    expected = exact(maps, masks)
    assert 0.5 < expected["pixel_auroc"] < 0.99 and 0.1 < expected["aupro"] < 0.95
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-4)
    assert found["pixel_resolution"] == "full" and found["masks"] == len(SIZES)


def test_model_resolution_is_the_models_input(workplace):
    rng = np.random.default_rng(0)
    pictures = [scratched(rng, *size, defect) for size in SIZES for defect in ("good", "scratch")]
    write_index(pictures)
    found, detector = evaluate("model"), load("artifacts/models/bright")
    maps = np.stack([detector.predict(image[:, :, ::-1]).map for image, *_ in pictures])
    side = (SIZE, SIZE)
    masks = np.stack([np.zeros(side, bool) if mask is None else shrink(mask, *side) for _, mask, _ in pictures])
    assert maps.shape == masks.shape == (12, *side)
    expected = exact(maps, masks)
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-9)  # few pixels: no sample
    assert found["pixel_resolution"] == "model"
    assert abs(found["aupro"] - evaluate()["aupro"]) > 1e-3


def test_a_mask_of_another_size_than_its_picture_has_the_say(workplace):
    """An index that `fetch` didn't write: the map is resized to the mask."""
    write_test_split()
    image, mask = np.full((64, 96, 3), 60, np.uint8), np.zeros((128, 192), np.uint8)
    mask[20:64, 40:100] = 255
    cv2.imwrite("data/test/2_mask.png", mask)
    assert image.shape[:2] != mask.shape and evaluate()["aupro"] > 0.95


MEMORY = """
import os, resource, sys
from types import SimpleNamespace
from stages.evaluate.__main__ import run
run(SimpleNamespace(threads=1, evaluate=SimpleNamespace(aupro_fpr_limit=0.3, resolution="full")), "bright")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_two_hundred_large_pictures_take_no_more_memory_than_twenty(workplace, tmp_path):
    """Peak of the process; 180 more maps of 1024 x 1024 would be 755 MB."""
    rng, peaks, folder = np.random.default_rng(0), [], dataset.Path("data/test")
    for count in (20, 200):
        shutil.rmtree(folder, ignore_errors=True)
        write_index([scratched(rng, 1024, 1024, defect) for defect in ("good", "scratch")])
        items = dataset.read_index(folder)
        for i in range(2, count):  # the same two pictures under other names
            one = items[i % 2]
            os.link(folder / one.path, folder / f"{i}.png")
            items.append(replace(one, path=f"{i}.png"))
        dataset.write_index(folder, items)
        command = [sys.executable, "-c", MEMORY]
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]) * 1024)
    assert peaks[1] - peaks[0] < 40e6
    assert json.loads(dataset.Path("artifacts/eval/bright.json").read_text())["masks"] == 100
    assert sorted(path.name for path in dataset.Path("artifacts/eval").iterdir()) == ["bright.json", "bright.npz"]


def test_nothing_stays_of_a_run_that_fails(workplace):
    write_test_split()
    dataset.Path("data/test/3_mask.png").unlink()
    with pytest.raises(UserError, match=r"3_mask\.png"):
        evaluate()
    assert not list(dataset.Path("artifacts/eval").iterdir())


def test_the_size_is_that_of_the_file_compiled_for_an_accelerator(workplace):
    """The compiled file where there is one; without a compiler that of the model's own."""
    write_test_split()
    folder = dataset.Path("artifacts/models/bright")
    own = (folder / "m.onnx").stat().st_size
    tree = json.loads((folder / "model.json").read_text())
    counts = {"ops": 1, "mapped": 1, "cpu": [], "subgraphs": 1, "parameter_bytes": 1, "compiler": None}
    counts |= dict.fromkeys(("on_chip_bytes", "streamed_bytes", "min_runtime_version"))
    write_model(folder, tree | {"edgetpu": {"how": "predicted", "file": None, **counts}})
    found = evaluate()
    assert found["size_bytes"] == own and found["how"].startswith("predicted")
    (folder / "compiled.tflite").write_bytes(bytes(12345))
    write_model(folder, tree | {"edgetpu": {"how": "compiled", "file": "compiled.tflite", **counts}})
    assert evaluate()["size_bytes"] == 12345 != own


def test_iou_by_hand():
    found, mask = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    found[:2, :2], mask[1:3, 1:3] = True, True
    assert iou(found, mask) == 1 / 7 and iou(mask, mask) == 1.0 and iou(~mask, mask) == 0.0
