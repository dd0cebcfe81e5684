"""Shared fixtures: the folder of real images and weights, small pictures, a clean working folder."""

import os
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
