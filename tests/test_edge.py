"""The runtime package against independent numpy computations, its model.json and its command line."""

import json
import shutil
import sys

import cv2
import numpy as np
import pytest
import scipy.ndimage
import tiny_models
from ai_edge_litert.interpreter import Interpreter

import edge
from edge import preprocess
from edge.__main__ import main
from edge.errors import ModelError
from edge.inference import scoring
from edge.inference.modelfile import write_model

random = np.random.default_rng(7)


@pytest.fixture(scope="module")
def models():
    return tiny_models.build()


@pytest.fixture
def folder(models, tmp_path):
    """A copy of the int8 model folder to damage."""
    return shutil.copytree(models / "int8", tmp_path / "model")


def picture(height=tiny_models.SIZE, width=tiny_models.SIZE):
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def convolve(x, kernel, bias):
    """A 3x3 convolution with stride 2 and no padding, by loops: [H, W, 3] to [h, w]."""
    side = (x.shape[0] - 3) // 2 + 1
    out = np.empty((side, side), np.result_type(x, kernel))
    for i in range(side):
        for j in range(side):
            out[i, j] = (x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * kernel).sum() + bias
    return out


# preprocessing


def test_int8_tensor_is_the_pixel_minus_128(models):
    detector = edge.load(models / "int8")
    image = np.arange(16 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(16, 16, 3)  # every value of a byte
    assert set(image.ravel()) == set(range(256))
    tensor = detector.prepare(image)
    assert tensor.dtype == np.int8 and tensor.shape == (1, 16, 16, 3)
    assert np.array_equal(tensor[0].astype(int), image.astype(int) - 128)


@pytest.mark.parametrize("kind", ["float", "onnx"])
def test_float_tensor_is_the_pixel_over_255(models, kind):
    image = picture()
    tensor = edge.load(models / kind).prepare(image)
    expected = image / 255 if kind == "float" else np.moveaxis(image / 255, 2, 0)
    assert tensor.dtype == np.float32 and tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor[0], expected, rtol=1e-6)


@pytest.mark.parametrize("image", [picture(15), picture().astype(np.float32), picture()[..., 0]])
def test_prepare_refuses_another_size_or_type(models, image):
    with pytest.raises(ValueError, match=r"must be uint8 \[16, 16, 3\]"):
        edge.load(models / "int8").prepare(image)


# runtimes


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["float", "onnx"])
def test_float_map_matches_numpy(models, kind, threads):
    image = picture()
    detector = edge.load(models / kind, threads)
    found, raw = detector.judge(image), detector.invoke(detector.prepare(image))
    expected = convolve(image / 255, tiny_models.KERNEL.astype(float), float(tiny_models.BIAS))
    assert found.raw_map.dtype == np.float32 and found.embedding is None
    np.testing.assert_allclose(found.raw_map, expected, atol=1e-5)
    assert len(raw) == 1 if kind == "float" else raw[1].item() == pytest.approx(expected.mean(), abs=1e-5)


def test_int8_map_matches_integer_arithmetic(models):
    """The quantized convolution recomputed from the weights in the file, within one step of the output."""
    image = picture()
    interpreter = Interpreter(str(models / "int8" / "model.tflite"))
    tensors = {tuple(t["shape"]): t for t in interpreter.get_tensor_details()}
    weights, bias = tensors[1, 3, 3, 3], tensors[(1,)]
    raw = json.loads((models / "int8" / "model.json").read_text())["outputs"][0]
    acc = convolve(
        image.astype(np.int64),  # (pixel - 128) - zero point
        interpreter.get_tensor(weights["index"])[0].astype(np.int64),
        int(interpreter.get_tensor(bias["index"])[0]),
    )
    step = weights["quantization_parameters"]["scales"][0] / 255 / raw["scale"]
    quantized = np.clip(np.round(acc * step) + raw["zero_point"], -128, 127)
    map = edge.load(models / "int8").judge(image).raw_map
    assert map.dtype == np.float32
    assert np.abs(map - (quantized - raw["zero_point"]) * raw["scale"]).max() <= raw["scale"] * 1.001


def test_runtime_says_what_ran(models):
    details = edge.load(models / "int8").details
    assert details["name"] == "ai_edge_litert" and details["version"][0].isdigit()
    assert details["delegate"] in ("XNNPACK", None)
    assert edge.load(models / "onnx").details["name"] == "onnxruntime"


def test_missing_runtime_says_what_to_install(models, monkeypatch):
    for name in ("ai_edge_litert.interpreter", "ai_edge_litert", "tflite_runtime", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    for kind, package in (("int8", "ai-edge-litert"), ("onnx", "onnxruntime")):
        with pytest.raises(ModelError, match=f"pip install {package}"):
            edge.load(models / kind)


@pytest.mark.parametrize(
    "keys, change, message",
    [
        (["input"], {"height": 32}, r"input is int8 \[1, 16, 16, 3\], but model.json says int8 \[1, 32, 16, 3\]"),
        (["input"], {"dtype": "float32", "zero_point": 0}, "input is int8"),
        (["input"], {"color": "grey", "frames": 4}, r"but model.json says int8 \[1, 16, 16, 4\]"),
        (["outputs", 0], {"width": 9}, r"no output 'anomaly_map' of 7 x 9 x 1; it has .*\[1, 7, 7, 1\]"),
        (["outputs", 0], {"zero_point": 3}, "zero point 47, but model.json says .* and 3"),
    ],
)
def test_file_that_differs_from_its_json_is_refused(folder, keys, change, message):
    at = raw = json.loads((folder / "model.json").read_text())
    for key in keys:
        at = at[key]
    at.update(change)
    write_model(folder, raw)
    with pytest.raises(ModelError, match=message):
        edge.load(folder)


@pytest.mark.parametrize("kind", ["int8", "onnx"])
def test_file_that_is_no_model_is_one_line(models, tmp_path, kind):
    folder = shutil.copytree(models / kind, tmp_path / "model")
    raw = json.loads((folder / "model.json").read_text())
    (folder / raw["file"]).write_bytes(b"nothing of the kind" * 10)
    write_model(folder, raw)
    with pytest.raises(ModelError, match="not a model that") as error:
        edge.load(folder)
    assert "\n" not in str(error.value)


# scoring


def test_score_is_the_maximum_of_the_mean_filter():
    map = random.normal(size=(9, 12)).astype(np.float32)
    for side in (1, 3, 5):
        expected = scipy.ndimage.uniform_filter(map.astype(float), side, mode="nearest").max()
        assert scoring.image_score(map, "max", side) == pytest.approx(expected, abs=1e-6)
    padded = np.pad(map, 1, mode="edge")
    brute = max(padded[i : i + 3, j : j + 3].mean() for i in range(9) for j in range(12))
    assert scoring.image_score(map, smooth=3) == pytest.approx(brute, abs=1e-6)


def test_score_of_the_output_rule(models, tmp_path):
    assert scoring.image_score(np.zeros((2, 2)), "output", 3, output=0.25) == 0.25
    with pytest.raises(ValueError, match="map only"):
        scoring.image_score(np.zeros((2, 2)), "output")
    folder = shutil.copytree(models / "onnx", tmp_path / "model")
    raw = json.loads((folder / "model.json").read_text())
    write_model(folder, {**raw, "score": {"rule": "output", "smooth": 1, "sigma": 0}})
    image = picture()
    expected = convolve(image / 255, tiny_models.KERNEL.astype(float), float(tiny_models.BIAS)).mean()
    assert edge.predict(folder, image).score == pytest.approx(expected, abs=1e-5)


def test_anomaly_map_is_bilinear_then_gaussian():
    map = random.normal(size=(8, 6)).astype(np.float32)
    rows, columns = (np.arange(32) + 0.5) / 4 - 0.5, (np.arange(24) + 0.5) / 4 - 0.5  # centres of pixels
    grid = np.meshgrid(rows, columns, indexing="ij")
    upsampled = scipy.ndimage.map_coordinates(map.astype(float), grid, order=1, mode="nearest")
    np.testing.assert_allclose(scoring.anomaly_map(map, 32, 24, 0), upsampled, atol=1e-5)
    for sigma in (1.0, 4.0):
        expected = scipy.ndimage.gaussian_filter(upsampled, sigma, mode="nearest", truncate=4)
        np.testing.assert_allclose(scoring.anomaly_map(map, 32, 24, sigma), expected, atol=1e-5)


def test_verdict_is_a_score_above_the_threshold():
    assert scoring.is_defect(0.51, 0.5) and not scoring.is_defect(0.5, 0.5)


def test_prediction_of_a_picture_of_any_size(models):
    image = picture(50, 31)
    prediction = edge.load(models / "float").predict(image)
    small = preprocess.resize(image, 16, 16)
    map = convolve(small / 255, tiny_models.KERNEL.astype(float), float(tiny_models.BIAS))
    expected = scipy.ndimage.uniform_filter(map, 3, mode="nearest").max()
    assert prediction.score == pytest.approx(expected, abs=1e-5)
    assert prediction.is_defect == (expected > 0.5)
    assert prediction.map.shape == (16, 16) and prediction.map.dtype == np.float32


# command line


def test_predict_command(models, tmp_path, capsys):
    images = [picture(20), picture(16)]
    for i, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{i}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    detector = edge.load(models / "int8")
    expected = [detector.predict(image) for image in images]

    assert main(["predict", str(models / "int8"), str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["score"] for row in rows] == [p.score for p in expected]
    assert [row["verdict"] for row in rows] == ["defect" if p.is_defect else "good" for p in expected]

    assert main(["predict", str(models / "int8"), str(tmp_path / "1.png"), "--threads", "2"]) == 0
    path, score, verdict = capsys.readouterr().out.split()
    assert path.endswith("1.png") and float(score) == pytest.approx(expected[1].score, abs=1e-5)
    assert verdict == rows[1]["verdict"]


def test_predict_command_goes_on_after_a_broken_picture(models, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "b.png"), picture())
    assert main(["predict", str(models / "int8"), str(tmp_path), "--json"]) == 1
    out, err = capsys.readouterr()
    assert [row["path"][-5:] for row in json.loads(out)] == ["b.png"]
    assert len([line for line in err.splitlines() if line.startswith("error: ") and "a.png" in line]) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["predict", "{model}", "{tmp}/nothing.png"], "nothing.png: can't be read"),
        (["predict", "{model}", "{tmp}"], "holds no picture"),
        (["predict", "{tmp}", "{tmp}"], "model.json: not found"),
        (["predict", "{model}", "{tmp}", "--threads", "0"], "threads = 0: must be at least 1"),
        (["info", "{tmp}/nothing"], "no such model folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_1(models, tmp_path, capsys, arguments, message):
    arguments = [a.format(model=models / "int8", tmp=tmp_path) for a in arguments]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and message in err and err.count("\n") == 1


def test_info_command(models, capsys):
    assert main(["info", str(models / "int8")]) == 0
    out = capsys.readouterr().out
    assert "tiny-int8: anomaly, tflite" in out and "16 x 16 rgb int8 nhwc" in out and "threshold 0.5" in out
