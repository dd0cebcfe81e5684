"""What `pip install .` puts on a device: a wheel of `edge` alone."""

import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes

import pytest
from conftest import ROOT


def copy(folder):
    """The checkout without what git ignores; building leaves files beside the sources."""
    for name in ("edge", "hardware_runners", "stages", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, target = copy(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", target, source]
    subprocess.run(command, check=True)
    (path,) = target.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_every_module_of_edge_and_no_other(wheel):
    files = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert files == {path.relative_to(ROOT).as_posix() for path in (ROOT / "edge").rglob("*.py")}


def read(wheel, name):
    (path,) = [n for n in wheel.namelist() if n.endswith(f".dist-info/{name}")]
    return wheel.read(path)


def test_its_metadata_asks_for_little(wheel):
    found = message_from_bytes(read(wheel, "METADATA"))
    assert found["Name"] == "edge-vision" and found["Requires-Python"] == ">=3.9"
    needed = found.get_all("Requires-Dist")
    assert {line for line in needed if "extra ==" not in line} == {"numpy", "opencv-python-headless"}
    extras = {"litert", "tflite", "onnx", "openvino", "tensorrt", "link", "defects", "remote", "sweep", "pipeline"}
    extras |= {"meter", "test"}
    assert extras == set(found.get_all("Provides-Extra"))
    assert read(wheel, "entry_points.txt").decode().strip() == "[console_scripts]\nedge-vision = edge.__main__:main"
