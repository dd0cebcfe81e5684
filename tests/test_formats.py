"""The table of formats, what follows from it, and that one module in `edge` is a new entry everywhere."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import tiny_models
from conftest import ROOT
from imports import closure
from test_modelfile import MAPPING

import edge
from edge.errors import ModelError
from edge.inference import runtimes
from edge.inference.formats import Library, Tensor
from edge.inference.modelfile import write_model
from edge.inference.runtimes import DELEGATES, FORMATS, LIBRARIES, RUNS, STORED


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(tiny_models.build() / "int8", tmp_path / "model")


def test_what_follows_from_the_table():
    assert set(FORMATS) == {"edgetpu", "onnx", "openvino", "tensorrt", "tflite"}
    assert STORED == ("onnx", "openvino", "tflite") and DELEGATES == ("edgetpu", "tensorrt")
    assert set(LIBRARIES) == {"ai-edge-litert", "tflite-runtime", "onnxruntime", "openvino", "tensorrt"}
    assert RUNS["tflite-runtime"] == RUNS["ai-edge-litert"] == RUNS["edgetpu"] == ("tflite",)
    assert RUNS["onnxruntime"] == RUNS["tensorrt"] == ("onnx",) and set(RUNS) == {*LIBRARIES, *DELEGATES}
    for found in FORMATS.values():
        assert (found.stored_as or found.name) in STORED and len({library.pip for library in found.libraries}) > 0
    assert FORMATS["tflite"].pip("aarch64") == "ai-edge-litert" and FORMATS["edgetpu"].pip("armv7l") == "tflite-runtime"
    assert FORMATS["edgetpu"].input_fields("int8")["dtype"] == "int8"
    assert FORMATS["openvino"].input_fields("int8") == {
        **{"layout": "nhwc", "scale": 1 / 255, "dtype": "uint8", "zero_point": 0}
    }
    assert FORMATS["onnx"].input_fields("int8") == {
        **{"layout": "nchw", "scale": 1 / 255, "dtype": "float32", "zero_point": 0}
    }


def test_the_extras_of_the_package_and_the_guide_name_every_library():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    guide = (ROOT / "hardware_runners/README.md").read_text()
    for name in LIBRARIES:
        assert [name] in extras.values(), f"pyproject.toml has no extra that installs {name} alone"
    for name in RUNS:
        assert f"`{name}`" in guide, f"hardware_runners/README.md does not name {name}"


def test_no_other_list_of_formats_or_libraries():
    """Two of the names on one line of code are a second list, which a new format would have to be added to."""
    names = {*FORMATS, *LIBRARIES, *(entry.module.split(".")[0] for f in FORMATS.values() for entry in f.libraries)}
    quoted = re.compile("|".join(f"[\"']{re.escape(name)}[\"']" for name in sorted(names)))
    for package in ("edge", "hardware_runners", "stages/common", "stages/benchmark", "stages/evaluate"):
        for path in (ROOT / package).rglob("*.py"):
            if path.parent.name != "runtimes":
                for line in path.read_text().splitlines():
                    assert len(set(quoted.findall(line))) < 2, f"{path}: {line.strip()}"


def test_a_stage_that_runs_models_depends_on_every_module_of_the_table():
    found = closure("edge.inference.detector")
    assert {f"edge/inference/runtimes/{name}.py" for name in FORMATS} <= found


def test_the_table_needs_no_numpy():
    """`doctor` asks a device that has nothing yet."""
    code = "import sys; sys.modules['numpy'] = sys.modules['cv2'] = None\n"
    code += "import json; from hardware_runners.runner.remote import probe; print(json.dumps(probe.probe()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["versions"]) == {"numpy", "opencv", *LIBRARIES} and found["delegates"] == {
        "edgetpu": False,
        "tensorrt": False,
    }


# delegates


def test_a_delegate_runs_the_file_compiled_for_it(folder):
    with pytest.raises(ModelError, match="model: not compiled for edgetpu; build a variant of format edgetpu"):
        edge.load(folder, 1, "edgetpu")
    (folder / "model_edgetpu.tflite").write_bytes(b"compiled")
    raw = json.loads((folder / "model.json").read_text())
    write_model(folder, {**raw, "edgetpu": {**MAPPING, "file": "model_edgetpu.tflite"}})
    with pytest.raises(ModelError, match=r"edgetpu: libedgetpu\.so\.1 can't be used"):
        edge.load(folder, 1, "edgetpu")
    assert edge.load(folder).details["delegate"] in ("XNNPACK", None)
    with pytest.raises(ModelError, match="no delegate 'edgetpu' for onnx; there are edgetpu, tensorrt"):
        edge.load(tiny_models.build() / "onnx", 1, "edgetpu")


class Library1:
    """Stands in for a delegate that loads: notes what the interpreter is given."""

    __name__ = "ai_edge_litert.interpreter"
    given: dict = {}  # noqa: RUF012

    def load_delegate(self, name):
        return f"delegate of {name}"

    def Interpreter(self, **given):
        from ai_edge_litert.interpreter import Interpreter

        Library1.given = given
        return Interpreter(given["model_path"])


def test_the_compiled_file_is_what_the_delegate_gets(folder, monkeypatch):
    shutil.copy(folder / "model.tflite", folder / "model_edgetpu.tflite")
    raw = json.loads((folder / "model.json").read_text())
    write_model(folder, {**raw, "edgetpu": {**MAPPING, "file": "model_edgetpu.tflite"}})
    monkeypatch.setattr(type(FORMATS["edgetpu"]), "library", lambda self: Library1())
    detector = edge.load(folder, 1, "edgetpu")
    assert detector.details["delegate"] == "edgetpu"
    assert Library1.given["experimental_delegates"] == ["delegate of libedgetpu.so.1"]
    assert Library1.given["model_path"] == str(folder / "model_edgetpu.tflite")


# built on the device


class Engine:
    """A runtime whose file the device makes itself, as TensorRT's: here the source, reversed."""

    details = {"name": "json", "version": "2.0.9", "delegate": None}  # noqa: RUF012
    builds = 0

    def __init__(self, library, path, threads):
        assert path.read_bytes()[::-1] == b"the model"
        self.path = path
        self.inputs = [Tensor("image", (1, 16, 16, 3), "float32")]
        self.outputs = [Tensor("map", (1, 7, 7, 1), "float32")]

    @staticmethod
    def maker(library, precision):
        return f"json {library.__version__} {precision}"

    @staticmethod
    def build(library, source, target, precision):
        Engine.builds += 1
        target.write_bytes(source.read_bytes()[::-1])

    def invoke(self, feeds, wanted):
        return [np.full((1, 7, 7, 1), feeds[0].mean(), np.float32) for _ in wanted]


def test_a_file_built_on_the_device_is_built_once_per_model_and_version(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    built = replace(FORMATS["tflite"], runtime=Engine, built_on_device=True, libraries=(Library("x", "json"),))
    monkeypatch.setitem(runtimes.FORMATS, "tflite", built)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.tflite").write_bytes(b"the model")
    write_model(tmp_path / "model", tiny_models.describe("model.tflite", "tflite", "float32", "nhwc", None))
    for _ in range(2):
        detector = edge.load(tmp_path / "model")
    assert Engine.builds == 1 and detector.runtime.path.parent == tmp_path / "cache/edge-vision/built"
    assert detector.predict(np.full((16, 16, 3), 51, np.uint8)).score == pytest.approx(0.2)
    monkeypatch.setattr(json, "__version__", "3")
    assert edge.load(tmp_path / "model").runtime.path != detector.runtime.path and Engine.builds == 2


@pytest.mark.parametrize("error", [RuntimeError("no engine\nfor this GPU"), OSError(28, "No space left on device")])
def test_a_file_that_can_not_be_built_is_one_line(tmp_path, monkeypatch, error):
    class Failing(Engine):
        @staticmethod
        def build(library, source, target, precision):
            target.write_bytes(b"half")
            raise error

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    built = replace(FORMATS["tflite"], runtime=Failing, built_on_device=True, libraries=(Library("x", "json"),))
    monkeypatch.setitem(runtimes.FORMATS, "tflite", built)
    folder = shutil.copytree(tiny_models.build() / "int8", tmp_path / "model")
    with pytest.raises(ModelError, match=r"model\.tflite: json can't build a TFLite file from it: ") as caught:
        edge.load(folder)
    assert "\n" not in str(caught.value) and list((tmp_path / "cache/edge-vision/built").iterdir()) == []


def test_built_files_that_nobody_uses_go(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = replace(FORMATS["tflite"], runtime=Engine, built_on_device=True, libraries=(Library("x", "json"),))
    (tmp_path / "source").write_bytes(b"the model")
    old, used = (built.built(json, tmp_path / "source", digest, "float32") for digest in "ab")
    for path in (old, used, part := old.with_name(".part.123")):
        path.touch()
        os.utime(path, (0, 0))
    assert built.built(json, tmp_path / "source", "b", "float32") == used  # is used again
    new = built.built(json, tmp_path / "source", "b", "int8")
    assert not old.exists() and not part.exists() and set(used.parent.iterdir()) == {used, new}


# a new one

MODULE = """
from edge.inference.formats import Accelerator, Format, Library

FORMAT = Format(
    name="toy",
    title="Toy",
    files=("model.toy",),
    runtime=None,
    libraries=(Library("toy-runtime", "toy_runtime"),),
    layout="nhwc",
    integer_io=True,
    precisions=("int8",),
    accelerator=ACCELERATOR,
)
"""
CHECK = """
import copy, json, yaml
from edge.errors import UserError
from edge.inference import modelinfo
from edge.inference.runtimes import FORMATS
from hardware_runners.commands import look
from hardware_runners.runner import devices
from hardware_runners.runner.remote import probe
from hardware_runners.runner.transports import bundle, jobs
from stages.common import params

tree = yaml.safe_load(open("params.yaml"))
tree["variants"] = {"a": {"model": "student", "format": "toy", "precision": "int8", "role": "student"}}
assert params.validate(tree).variants["a"].format == "toy"
tree["variants"]["a"]["precision"] = "float32"
try:
    params.validate(tree)
    raise SystemExit("not refused")
except UserError as error:
    assert "toy is made in int8 only" in str(error)
name = "toy" if FORMATS["toy"].accelerator else "toy-runtime"
device = devices.check({"name": "x", "transport": "local", "runtime": [name]}, "x")
devices.check_runtime(device, "toy")
found = probe.probe()
assert found["versions"]["toy-runtime"] is None and "toy-runtime" in found["fingerprint"]
lines = look.diagnose(device, {**found, "free_mb": 1e4})
assert "toy-runtime" in lines[-1], lines
assert "toy" in modelinfo.STORED and "edge/inference/runtimes/toy.py" in bundle.code().files
if name == "toy":
    assert lines[0] == "Toy runtime: buy one" and jobs.score("python", device, "m", "p")[-2:] == ["--delegate", "toy"]
"""


@pytest.mark.parametrize("accelerator", ["None", "Accelerator('libtoy.so', 'buy one')"])
def test_one_module_makes_a_format_known_everywhere(tmp_path, accelerator):
    for name in ("edge", "hardware_runners", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    module = tmp_path / "edge/inference/runtimes/toy.py"
    module.write_text(MODULE.replace("ACCELERATOR", accelerator))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", CHECK]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
