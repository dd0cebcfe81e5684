"""Shared fixtures: the folder of real images and weights, small pictures, a clean working folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items) -> None:
    """What isn't marked slow is fast: `pytest -m fast`, which `make test-fast` runs."""
    for item in items:
        if item.get_closest_marker("slow") is None:
            item.add_marker("fast")


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder with real data/ and weights/ that EDGE_VISION_ASSETS names; skipped only where it is absent."""
    folder = Path(os.environ.get("EDGE_VISION_ASSETS", ""))
    if not os.environ.get("EDGE_VISION_ASSETS") or not (folder / "weights").is_dir():
        pytest.skip("EDGE_VISION_ASSETS names no folder with data/ and weights/")
    return folder.resolve()


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one_line(caught) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="session")
def opencv4(tmp_path_factory):
    """Runs a script of the tests with OpenCV 4, whose Haar cascades OpenCV 5 left out, in an environment of its own."""
    folder = tmp_path_factory.mktemp("opencv4")
    python = folder / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "opencv-python-headless<5"]
    subprocess.run(install, check=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment["PYTHONPATH"] = str(ROOT)

    def run(script, *arguments):
        return subprocess.run([python, script, *arguments], env=environment, capture_output=True, text=True)

    return run


@pytest.fixture
def dinov2(tmp_path):
    """A tiny random DINOv2 as a folder in hub layout."""
    import torch
    from transformers import Dinov2Config, Dinov2Model  # slow to import, and few tests need it

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
    Dinov2Model(Dinov2Config(**sizes, initializer_range=0.2)).save_pretrained(tmp_path / "dinov2")
    return tmp_path / "dinov2"


@pytest.fixture(scope="session")
def report_run(tmp_path_factory):
    """A folder in which `report` ran once."""
    import report_project  # matplotlib and more, which few tests need

    root = tmp_path_factory.mktemp("project")
    made = report_project.make(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        report_project.run(made)
    return root, made


@pytest.fixture
def inside(report_run, monkeypatch):
    """The params of a run of `report`, in whose folder the test is."""
    monkeypatch.chdir(report_run[0])
    return report_run[1]


@pytest.fixture
def said():
    """The lines that something was told to say."""
    return []


@pytest.fixture
def inbox(tmp_path):
    """Who reads what a device of this folder sends."""
    from link_parties import Inbox, site

    site(tmp_path, "https://nobody")
    return Inbox(tmp_path / "server.json")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB; skipped where none can be mounted."""
    (tmp_path / "small").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(tmp_path / "small")]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield tmp_path / "small"
    subprocess.run(["umount", "-l", str(tmp_path / "small")], check=True)
