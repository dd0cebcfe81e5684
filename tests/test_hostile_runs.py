"""Model files that no runtime should fail on without a line that names them."""

import json
import random
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
import tiny_models
from conftest import ROOT
from onnx import TensorProto, helper
from test_edge_outputs import refused
from test_edge_samples import MAP, SIZE, grey, save
from test_modelfile import MAPPING

import edge
from edge.__main__ import main
from edge.errors import ModelError
from edge.inference import formats
from edge.inference.modelfile import write_model
from edge.inference.runtimes import FORMATS


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(tiny_models.build() / "int8", tmp_path / "model")


@pytest.mark.parametrize("kind", ["int8", "float", "onnx"])
def test_a_tensor_whose_name_is_not_utf8(tmp_path, kind):
    folder = shutil.copytree(tiny_models.build() / kind, tmp_path / "model")
    raw = json.loads((folder / "model.json").read_text())
    path = folder / raw["file"]
    names = (b"serving_default_x:0", b"image")
    path.write_bytes(re.sub(b"|".join(names), lambda found: found[0][:-1] + b"\xfc", path.read_bytes()))
    write_model(folder, raw)
    with pytest.raises(ModelError, match=rf"{path.name}: the name of a tensor is not UTF-8; export the model again"):
        edge.load(folder)


@pytest.mark.parametrize("kind", ["int8", "onnx"])
@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_model_file_is_one_line(tmp_path, kind, seed):
    """Cut off, so that no runtime can take it; the sha256 is right."""
    folder = shutil.copytree(tiny_models.build() / kind, tmp_path / "model")
    raw = json.loads((folder / "model.json").read_text())
    path = folder / raw["file"]
    data = path.read_bytes()
    path.write_bytes(data[: random.Random(seed).randrange(len(data) // 2)])
    write_model(folder, raw)
    with pytest.raises(ModelError) as caught:
        edge.load(folder)
    assert "\n" not in str(caught.value)


def test_a_runtime_that_fails_while_it_runs_is_one_line(tmp_path, capsys):
    """Indices that only the sample decides: onnxruntime raises its own class."""
    shape = [1, 1, SIZE, SIZE]
    nodes = [
        helper.make_node("Cast", ["frame"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "whole"], ["map"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("frame", "map")]
    table = helper.make_tensor("table", TensorProto.FLOAT, [1], [0.0])
    graph = helper.make_graph(nodes, "gather", values[:1], values[1:], [table])
    folder = tmp_path / "model"
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    info = tiny_models.describe("model.onnx", "onnx", "float32", "nchw", None)
    write_model(folder, {**info, "outputs": [MAP], "input": grey(1), "score": {"rule": "max", "smooth": 1, "sigma": 0}})
    for name, value in (("dark", 0), ("bright", 255)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((20, 20, 3), value, np.uint8))
    assert main(["predict", str(folder), str(tmp_path / "dark.png")]) == 0
    capsys.readouterr()
    refused(capsys, ["predict", folder, tmp_path / "bright.png"], "model.onnx: onnxruntime failed: ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_is_no_verdict(tmp_path, value):
    """nan is not above any threshold, and would pass for good."""
    shape = [1, 1, SIZE, SIZE]
    folder = save(
        tmp_path / "model",
        [("Add", ["frame", "broken"], ["map"])],
        {"frame": shape},
        {"map": shape},
        [("broken", np.float32(value))],
        input=grey(1),
    )
    with pytest.raises(ModelError, match=r"model\.onnx: the score of a sample is -?(nan|inf)"):
        edge.predict(folder, np.zeros((SIZE, SIZE, 1), np.uint8))


@pytest.mark.parametrize(
    "sample", [np.zeros((0, 5, 3), np.uint8), np.zeros(3, np.uint8), np.zeros((2, 2, 3, 1), np.uint8)]
)
def test_a_sample_that_is_no_picture(sample):
    with pytest.raises(ValueError, match=r"sample is uint8 \[.*: must be uint8 \[H, W\]"):
        edge.predict(tiny_models.build() / "float", sample)


@pytest.mark.parametrize("error", [ImportError("libx.so: cannot\nopen"), AttributeError("no _ARRAY_API"), OSError("x")])
def test_a_runtime_that_is_installed_and_broken_is_not_called_missing(monkeypatch, error):
    def broken(_):
        raise error

    monkeypatch.setattr(formats.importlib, "import_module", broken)
    with pytest.raises(ModelError, match="ai-edge-litert is installed but can't be imported: ") as caught:
        FORMATS["tflite"].library()
    assert "\n" not in str(caught.value)


def test_a_missing_edge_tpu_library_is_one_line_and_nothing_more(folder):
    """The half-made delegate raises an AttributeError in its __del__, of which Python prints a traceback."""
    (folder / "model_edgetpu.tflite").write_bytes(b"compiled")
    write_model(
        folder,
        {**json.loads((folder / "model.json").read_text()), "edgetpu": {**MAPPING, "file": "model_edgetpu.tflite"}},
    )
    command = [sys.executable, "-m", "edge", "bench", folder, "--delegate", "edgetpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: edgetpu: libedgetpu.so.1 can't be used: libedgetpu.so.1: cannot open")
    assert "sudo apt install libedgetpu1-std" in done.stderr


@pytest.mark.parametrize("format", ["int8", "onnx"])
@pytest.mark.parametrize("threads", [0, -1, 1025, 999_999_999_999, 10**30])
def test_numbers_of_threads(format, threads):
    with pytest.raises(ModelError, match=f"threads = {threads}: must be at (least 1|most 1024)"):
        edge.load(tiny_models.build() / format, threads)
