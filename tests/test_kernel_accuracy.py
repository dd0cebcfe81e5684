"""The accuracy of int8 files on other kernels than XNNPACK's: `edge.inference.kernels` and `experiments kernels`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import kernels as independent
import numpy as np
import pytest
import tiny_models
from conftest import ROOT, one_line

from edge.errors import ModelError, UserError
from edge.inference import kernels
from edge.inference.detector import load
from experiments import kernels as experiment
from experiments.__main__ import main
from hardware_runners.runner import transports
from hardware_runners.runner.devices import Device
from hardware_runners.runner.remote import score
from hardware_runners.runner.transports import jobs
from stages.common import atomic, dataset
from stages.evaluate.__main__ import run as evaluate
from stages.report.formatting import NONE

MODELS = tiny_models.build()
LOCAL = Device(name="local", transport="local")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Test pictures of noise, half of them with a square and its mask, and the tiny models."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/models").symlink_to(MODELS)
    (tmp_path / "hardware_runners").symlink_to(ROOT / "hardware_runners")
    (tmp_path / "params.yaml").symlink_to(ROOT / "params.yaml")
    folder, random, items = tmp_path / "data/test", np.random.default_rng(0), []
    folder.mkdir(parents=True)
    for i in range(20):
        image, mask, bad = random.integers(0, 256, (16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8), i % 2
        if bad:
            mask[4:9, 3 : 8 + i % 3] = 255
            image[mask > 0] = random.integers(120, 256)
            cv2.imwrite(str(folder / f"{i}_mask.png"), mask)
        cv2.imwrite(str(folder / f"{i}.png"), image)
        digest = dataset.sha256(folder / f"{i}.png")
        defect, name = ("spot", f"{i}_mask.png") if bad else ("good", "")
        items.append(dataset.Item(f"{i}.png", "test", bad, defect, name, digest, str(i)))
    dataset.write_index(folder, items)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# edge


@pytest.mark.parametrize(("name", "resolver"), [*zip(kernels.KERNELS, independent.PLAIN, strict=True)])
def test_a_detector_runs_on_the_kernels_that_are_named(name, resolver):
    """As an interpreter with that resolver says, and without a delegate."""
    detector = kernels.use(load(MODELS / "int8"), name)
    assert detector.details["delegate"] is None and detector.details["name"] == "ai_edge_litert"
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    tensor = detector.prepare(image)
    wanted, delegated = independent.invoke(MODELS / "int8/model.tflite", [tensor], resolver)
    assert not delegated
    np.testing.assert_array_equal(detector.invoke(tensor)[0], wanted)


def test_other_formats_have_no_kernels():
    with pytest.raises(ModelError, match="a model of format onnx has no kernels reference") as caught:
        kernels.use(load(MODELS / "onnx"), "reference")
    assert one_line(caught)


# on a device


def test_the_options_of_a_device_come_with_its_delegate():
    device = Device(name="x", transport="local", runtime=["edgetpu"])
    words = jobs.score("python", device, "m", "p", "reference", True)
    assert words[4:] == ["p", "--kernels", "reference", "--maps", "--delegate", "edgetpu"]
    assert jobs.score("python", LOCAL, "m", "p") == ["python", "-m", jobs.SCORE, "m", "p"]


@pytest.mark.parametrize("name", [None, *kernels.KERNELS])
def test_maps_come_back_as_the_model_gave_them(tmp_path, name):
    random = np.random.default_rng(2)
    images = {f"a/{i}.png": random.integers(0, 256, (16, 16, 3), np.uint8) for i in range(3)}
    files = {path: cv2.imencode(".png", image[..., ::-1])[1].tobytes() for path, image in images.items()}
    found = transports.score(LOCAL, MODELS / "int8", files, "test", name, maps=True)
    detector = load(MODELS / "int8")
    if name:
        kernels.use(detector, name)
    for path, image in images.items():
        wanted = detector.predict(image)
        np.testing.assert_array_equal(score.unpack(found["maps"][path], 7, 7), wanted.raw_map)
        assert found["scores"][path] == wanted.score
    assert found["runtime"]["delegate"] == (None if name else "XNNPACK")
    assert "maps" not in transports.score(LOCAL, MODELS / "int8", files, "test")


def test_a_map_of_another_size_is_refused():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(score.unpack(score.pack(values), 2, 3), values)
    with pytest.raises(ValueError, match="reshape"):
        score.unpack(score.pack(values), 2, 4)


def test_the_accuracy_command_takes_kernels(project):
    """Its own file, beside that of the default kernels."""
    (project / "artifacts/eval").mkdir()
    items = dataset.read_index("data/test")
    labels, names = np.array([item.label for item in items]), [item.path for item in items]
    np.savez("artifacts/eval/int8.npz", path=names, label=labels, score=np.zeros(len(items)))
    command = [sys.executable, "-m", "hardware_runners", "accuracy", "local", "int8", "--kernels"]
    for name in ("reference", "fast"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([*command, name], capture_output=True, text=True, env=environment)
        if name == "fast":
            assert done.returncode == 2 and "invalid choice: 'fast'" in done.stderr
        else:
            found = json.loads(done.stdout)
            assert found["kernels"] == "reference" and found["runtime"]["delegate"] is None
            assert json.loads(Path("artifacts/accuracy/local-int8-reference.json").read_text()) == found


# the table


def test_each_kind_of_kernels_gets_its_accuracy(project):
    """That of XNNPACK is what `evaluate` says at the model's resolution; the others are scored anew."""
    main(["kernels", "int8", "--output", "here/it.json"])
    found = json.loads(Path("here/it.json").read_text())
    section = SimpleNamespace(aupro_fpr_limit=0.3, resolution="model")
    evaluate(SimpleNamespace(threads=1, evaluate=section), "int8")
    wanted = json.loads(Path("artifacts/eval/int8.json").read_text())
    assert [row["kernels"] for row in found["rows"]] == ["XNNPACK", "builtin", "reference"]
    assert found["images"] == 20 and found["machines"]["local"]["architecture"]
    first = found["rows"][0]
    assert first["exact"] == 1 and first["max_lsb"] == first["verdicts_that_differ"] == 0
    for key in ("image_auroc", "aupro", "f1"):
        assert first[key] == pytest.approx(wanted[key], abs=1e-9) and 0.05 < first["image_auroc"] < 1, key
    for row in found["rows"]:
        plain = load(MODELS / "int8")
        if row["kernels"] in kernels.KERNELS:
            kernels.use(plain, row["kernels"])
        steps = []
        for item in dataset.read_index("data/test"):
            image = cv2.imread(f"data/test/{item.path}")[..., ::-1]
            tensor = plain.prepare(np.ascontiguousarray(image))
            steps.append(plain.invoke(tensor)[0].astype(int) - load(MODELS / "int8").invoke(tensor)[0])
        assert row["exact"] == (np.array(steps) == 0).mean() and row["max_lsb"] == np.abs(steps).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["float"], "float: is no int8 TFLite file"),
        (["onnx"], "onnx: is no int8 TFLite file"),
        (["nowhere"], "artifacts/models/nowhere"),
        (["int8", "--device", "pi9"], "hardware_runners/inventory/pi9.yaml: no such device"),
    ],
)
def test_what_cannot_be_compared_is_one_line(project, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["kernels", *arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.startswith("error: kernels: ") and message in error
    assert len(error.splitlines()) == 1


def test_one_kind_of_pictures_has_no_auroc(project, capsys):
    good = [item for item in dataset.read_index("data/test") if not item.label]
    dataset.write_index(Path("data/test"), good)
    with pytest.raises(SystemExit):
        main(["kernels", "int8"])
    assert "data/test: an AUROC needs good and defect pictures" in capsys.readouterr().err


def test_the_table_names_kernels_and_marks_emulation(tmp_path):
    row = {"variant": "a", "device": "local", "emulated": False, "runtime": "litert 1", "kernels": "XNNPACK"}
    row |= {"image_auroc": 0.9876, "aupro": None, "f1": 0.5, "exact": 1.0, "within_1": 1.0, "max_lsb": 0}
    other = row | {"device": "arm", "emulated": True, "kernels": "reference", "exact": 0.2, "max_lsb": 12}
    machines = {"local": {"architecture": "x86_64", "cpu": "A", "int8": "avx512_vnni"}}
    found = {"rows": [row, other], "machines": machines, "images": 160, "code": None}
    atomic.write_json(tmp_path / "kernels.json", found)
    lines, same = experiment.markdown(tmp_path).splitlines(), f"0.988 | {NONE} | 0.500 |"
    assert f"| a | local | XNNPACK | 100.0% | 100.0% | 0 | {same}" in lines
    assert f"| a | arm (emulated) | TFLite's reference kernels | 20.0% | 100.0% | 12 | {same}" in lines
    assert "- local: x86_64, A, int8: avx512_vnni." in lines and lines[-1] == "- Code not recorded."
    with pytest.raises(UserError):
        experiment.markdown(tmp_path / "nowhere")
