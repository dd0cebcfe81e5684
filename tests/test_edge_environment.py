"""The device: a fresh environment with `pip install ".[litert]"` and nothing else of the project."""

import ast
import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tiny_models
from conftest import ROOT
from test_package import copy
from videos import values, write

import edge

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """A folder with an int8 model folder and a picture, and the Python of its own environment."""
    folder = tmp_path_factory.mktemp("device")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    source = copy(tmp_path_factory.mktemp("source"))
    subprocess.run([*install, f"{source}[litert]"], check=True)
    shutil.copytree(tiny_models.build() / "int8", folder / "model")
    image = np.random.default_rng(3).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "picture.png"), image[..., ::-1])
    return folder, python, image


def run(device, *arguments):
    folder, python, _ = device
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run([python, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_same_score_as_in_the_project(device):
    done = run(device, "-m", "edge", "predict", "model", "picture.png", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    expected = edge.load(device[0] / "model").predict(device[2])
    assert row["score"] == pytest.approx(expected.score, rel=1e-6)
    assert row["verdict"] == ("defect" if expected.is_defect else "good")


def test_video(device):
    write(device[0] / "in.avi", range(0, 200, 10))
    done = run(device, "-m", "edge", "video", "model", "in.avi", "--output", "out.mp4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["output"]["written"] == len(values(device[0] / "out.mp4")) == 20


def test_the_console_script_is_the_same_command(device):
    folder, python, _ = device
    command = [python.parent / "edge-vision", "predict", "model", "picture.png"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.stdout == run(device, "-m", "edge", "predict", "model", "picture.png").stdout != ""


@pytest.mark.parametrize("name", ["torch", "tensorflow", "dvc", "onnx", "pydantic", "stages", "hardware_runners"])
def test_build_packages_are_absent(device, name):
    done = run(device, "-c", f"import {name}")
    assert done.returncode == 1 and "ModuleNotFoundError" in done.stderr


def test_onnx_without_its_runtime_is_one_line(device):
    folder = device[0] / "onnx"
    shutil.copytree(tiny_models.build() / "onnx", folder)
    done = run(device, "-m", "edge", "predict", "onnx", "picture.png")
    assert done.returncode == 1
    assert done.stderr.strip() == "error: no ONNX runtime: pip install onnxruntime"


def test_device_code_is_python_3_9_and_imports_no_build_code():
    allowed = {"edge", "hardware_runners", "numpy", "cv2", *sys.stdlib_module_names}
    for path in [*(ROOT / "edge").rglob("*.py"), *(ROOT / "hardware_runners/runner/remote").rglob("*.py")]:
        tree = ast.parse(path.read_text(), feature_version=(3, 9))
        names = [n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names]
        names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
        found = {name.split(".")[0] for name in names}
        assert found <= allowed - ({"hardware_runners"} if path.is_relative_to(ROOT / "edge") else set()), path
        assert "__future__" in found or len(tree.body) <= 1, f"{path}: annotations must not run on Python 3.9"


def test_importing_edge_is_light():
    code = (
        "import sys, edge; print(sorted(m for m in sys.modules if m.startswith(('edge.', 'numpy', 'cv2', 'ai_edge'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
