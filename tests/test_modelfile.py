"""model.json: what it refuses, what it covers, and folders of its first version."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import tiny_models

import edge
from edge.errors import ModelError
from edge.inference import modelfile
from edge.inference.modelfile import open_model, write_model
from edge.inference.modelspec import Grid, Quantization, Validation

GRID = ("dtype", "scale", "zero_point")
MAPPING = {  # as stages.compile.edgetpu writes it
    "how": "predicted",
    "file": None,
    "ops": 4,
    "mapped": 3,
    "cpu": [{"op": "PAD", "index": 2, "why": "no constant", "source": "rules"}],
    "subgraphs": 1,
    "parameter_bytes": 28,
    "on_chip_bytes": None,
    "streamed_bytes": None,
    "min_runtime_version": None,
    "compiler": None,
}


@pytest.fixture(scope="module")
def models():
    return tiny_models.build()


@pytest.fixture
def folder(models, tmp_path):
    """A copy of the int8 model folder to damage."""
    return shutil.copytree(models / "int8", tmp_path / "model")


def test_model_folder_survives_writing_and_reading(models):
    info = open_model(models / "int8")
    raw = json.loads((models / "int8" / "model.json").read_text())
    assert info.raw == raw and info.folder == models / "int8" and info.path.name == "model.tflite"
    assert (info.input.height, info.input.dtype, info.input.zero_point) == (16, "int8", -128)
    assert (info.threshold, info.params, info.score.smooth) == (0.5, 28, 3)
    before = (models / "int8" / "model.json").read_bytes()
    write_model(models / "int8", raw)
    assert (models / "int8" / "model.json").read_bytes() == before


@pytest.mark.parametrize(
    "keys, value, message",
    [
        (["schema"], 3, "schema = 3: must be 2"),
        (["task"], "classify", "task = 'classify': must be 'anomaly'"),
        (["format"], "edgetpu", "format = 'edgetpu': must be 'onnx' or 'openvino' or 'tflite'"),
        (["file"], "../model.tflite", "file = .*: must be the name of a file in the model folder: model.tflite"),
        (["sha256"], "00", "sha256: unknown field; remove it or correct its name"),
        (["input", "channels"], 3, "input.channels: unknown field"),
        (["outputs", 0, "unit"], "mm", "outputs.0.unit: unknown field"),
        (["quantization", "bits"], 8, "quantization.bits: unknown field"),
        (["validation"], {"auroc": 0.9, "good": 3, "defects": 3, "bad": 1}, "validation.bad: unknown field"),
        (["validation"], {"auroc": 0.9, "good": 3, "cutpaste": 3, "defects": 3}, "validation.defects: unknown field"),
        (["validation"], {"auroc": 0.9, "good": 3, "cutpaste": 0}, "validation.cutpaste = 0: must be a whole number"),
        (["validation"], {"auroc": 0.9, "good": 3}, "validation.defects: missing field"),
        (["validation"], {"auroc": 0.9}, "validation.good: missing field"),
        (["edgetpu"], {"how": "guessed"}, "edgetpu.ops: missing field"),
        (["input"], 3, "input = 3: must be an object"),
        (["input", "height"], 0, "input.height = 0: must be a whole number of at least 1"),
        (["input", "height"], True, "input.height = True"),
        (["input", "scale"], 0.5, r"input.scale = 0.5: must be .*1/255"),
        (["input", "zero_point"], 0, "input.zero_point = 0: must be -128 for int8"),
        (["input", "frames"], 4, "input.frames = 4: must be 1 for rgb"),
        (["input", "step"], 0, "input.step = 0: must be a whole number of at least 1"),
        (["outputs"], {}, "outputs = {}: must be a list of objects"),
        (["outputs"], [], "outputs: 0 of meaning 'map'; there must be one"),
        (["outputs", 0, "scale"], 0, "outputs.0.scale = 0: must be a finite number above 0"),
        (["outputs", 0, "meaning"], "logits", "outputs.0.meaning = 'logits': must be 'map' or 'score' or 'embedding'"),
        (["outputs", 0, "channels"], 2, "outputs.0.channels = 2: must be a whole number of at least 1 and at most 1"),
        (["state"], [{"input": "a", "output": "b", "shape": [0]}], r"state.0.shape = \[0\]: must be a list of whole"),
        (["score", "rule"], "output", "outputs: 0 of meaning 'score'; there must be one"),
        (["score", "smooth"], 2, "score.smooth = 2: must be an odd number"),
        (["threshold", "value"], float("nan"), "threshold.value = nan: must be a finite number"),
        (["cost", "macs"], 1.5, "cost.macs = 1.5: must be a whole number"),
        (["files", "model.tflite"], "00", "model.tflite: content differs from sha256 in .*; copy or build"),
        (["files", "weights.bin"], "00", "weights.bin: not found, although .* lists it in 'files'"),
        (["input", "layout"], None, "input.layout: missing field"),
        (["threshold"], None, "threshold: missing field"),
    ],
)
def test_model_json_errors_name_file_field_and_what_is_allowed(folder, keys, value, message):
    path = folder / "model.json"
    raw = json.loads(path.read_text())
    at = raw
    for key in keys[:-1]:
        at = at[key]
    if value is None:
        del at[keys[-1]]
    else:
        at[keys[-1]] = value
    path.write_text(json.dumps(raw))
    with pytest.raises(ModelError, match=message) as error:
        open_model(folder)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_broken_model_folders(folder, tmp_path):
    with pytest.raises(ModelError, match="nowhere: no such model folder"):
        open_model(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"model\.json: not found"):
        open_model(tmp_path)
    for text in ("{", "[1]", "\ufffd"):
        (folder / "model.json").write_text(text)
        with pytest.raises(ModelError, match=r"model\.json"):
            open_model(folder)


@pytest.mark.parametrize("name", ["model.tflite", "model_edgetpu.tflite", "weights/part.bin"])
def test_every_file_is_covered(folder, name):
    """The model file, one compiled from it and external data in a folder below: missing, changed or not listed."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if name != "model.tflite":
        path.write_bytes(b"one of its files")
        with pytest.raises(ModelError, match=f"{name}: not listed in 'files' of .*; remove it"):
            open_model(folder)
    raw = json.loads((folder / "model.json").read_text())
    info = write_model(folder, raw)
    assert open_model(folder).files == info.files and set(info.files) == {"model.tflite", name}
    content = path.read_bytes()
    assert info.files[name] == hashlib.sha256(content).hexdigest()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match=f"{name}: content differs from sha256"):
        open_model(folder)
    path.unlink()
    with pytest.raises(ModelError, match=f"{name}: not found, although"):
        open_model(folder)


def test_writing_a_wrong_model_json_leaves_the_old_one(folder):
    before = (folder / "model.json").read_bytes()
    with pytest.raises(ModelError, match="task"):
        write_model(folder, {**json.loads(before), "task": "x"})
    (folder / "model.tflite").unlink()
    with pytest.raises(ModelError, match="must be the name of a file in the model folder: it has none"):
        write_model(folder, json.loads(before))
    assert (folder / "model.json").read_bytes() == before


def test_what_is_typed(folder):
    raw = json.loads((folder / "model.json").read_text())
    (folder / "model_edgetpu.tflite").write_bytes(b"compiled")
    raw["validation"] = {"auroc": 0.75, "good": 28, "defects": 27}
    raw["edgetpu"] = {**MAPPING, "how": "compiled", "file": "model_edgetpu.tflite", "predicted_mapped": 3}
    write_model(folder, raw)
    info = open_model(folder)
    grid = raw["outputs"][0]
    assert info.quantization == Quantization(
        "int8 weights per channel", "of 8 random pictures", Grid(grid["scale"], grid["zero_point"]), None
    )
    assert info.validation == Validation(0.75, 28, 27)
    assert (info.edgetpu.how, info.edgetpu.mapped, info.edgetpu.cpu) == ("compiled", 3, tuple(MAPPING["cpu"]))
    assert info.compiled("edgetpu") == folder / "model_edgetpu.tflite" and info.compiled(None) == info.path
    # the figures are those of the model, whatever was compiled from it
    assert info.size_bytes == info.path.stat().st_size and info.sha256 == info.files["model.tflite"]
    raw["edgetpu"]["file"] = "elsewhere.tflite"
    with pytest.raises(ModelError, match=r"edgetpu.file = 'elsewhere.tflite': must be a file in the model folder"):
        write_model(folder, raw)


def test_the_older_name_of_validation_defects_is_read(folder):
    raw = json.loads((folder / "model.json").read_text())
    write_model(folder, {**raw, "validation": {"auroc": 0.75, "good": 28, "cutpaste": 27}})
    assert open_model(folder).validation == Validation(0.75, 28, 27)


# version 1


def version_1(folder, file="model.tflite", weights=b"", **changes):
    """A folder as the first version wrote it."""
    content = (folder / file).read_bytes()
    old = {
        "schema": 1,
        "task": "anomaly",
        "name": "old",
        "file": file,
        "format": "tflite",
        "sha256": hashlib.sha256(content + weights).hexdigest(),
        "input": {
            **{"height": 16, "width": 16, "channels": 3, "color": "rgb", "resize": "stretch", "layout": "nhwc"},
            **{"dtype": "int8", "scale": 1 / 255, "zero_point": -128},
        },
        "output": {
            **{"name": "anomaly_map", "meaning": "anomaly_map", "height": 7, "width": 7},
            **{key: json.loads((folder / "model.json").read_text())["outputs"][0][key] for key in GRID},
        },
        "score": {"rule": "max", "smooth": 3, "sigma": 1.0},
        "threshold": {"value": 0.5, "method": "0.98 quantile of 28 good validation scores"},
        "quantization": None,
        "cost": {"params": 28, "macs": 1323},
        "made_by": {},
        **changes,
    }
    (folder / "model.json").write_text(json.dumps(old))
    return folder


def test_a_folder_of_version_1_is_read(models, folder):
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    expected = edge.predict(models / "int8", image)
    version_1(folder, validation={"auroc": 0.9, "good": 3, "cutpaste": 3})
    info = open_model(folder)
    assert (info.input.frames, info.input.channels, info.outputs[0].meaning, info.state) == (1, 3, "map", ())
    assert info.raw["schema"] == 2 and info.validation.good == 3
    found = edge.predict(folder, image)
    assert found.score == expected.score and np.array_equal(found.map, expected.map)
    path = folder / "model.tflite"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ModelError, match=r"model\.tflite: content differs from sha256"):
        open_model(folder)
    path.unlink()
    with pytest.raises(ModelError, match=r"model\.tflite: not found, although"):
        open_model(folder)


def test_version_1_had_one_digest_for_openvinos_two_files_and_no_word_on_the_score(folder):
    (folder / "model.tflite").rename(folder / "model.xml")
    (folder / "model.bin").write_bytes(b"weights")
    score = {"rule": "output", "smooth": 1, "sigma": 0}
    version_1(folder, "model.xml", b"weights", format="openvino", score=score)
    info = open_model(folder)
    assert set(info.files) == {"model.xml", "model.bin"} and info.size_bytes > 7
    assert [output.meaning for output in info.outputs] == ["map", "score"]
    (folder / "model.bin").write_bytes(b"Weights")
    with pytest.raises(ModelError, match="content differs from sha256"):
        open_model(folder)


@pytest.mark.parametrize("key", ["input", "output", "score", "sha256", "format"])
def test_a_damaged_version_1_is_one_line(folder, key):
    version_1(folder, **{key: 7})
    with pytest.raises(ModelError, match=f"{key} = 7: must be") as error:
        open_model(folder)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_one_line(folder, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path / "model.tflite"))

    monkeypatch.setattr(modelfile, "digests", denied)
    with pytest.raises(ModelError, match=r"model\.tflite: can't be read: Permission denied"):
        open_model(folder)
