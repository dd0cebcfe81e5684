"""Says what a machine is: `python -m hardware_runners.runner.remote.probe` prints JSON behind a mark, by
the standard library."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import time
from typing import Any

from edge.inference.runtimes import ACCELERATORS, LIBRARIES
from hardware_runners.runner import energy
from hardware_runners.runner.remote import machine

OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")


def probe() -> dict[str, Any]:
    """The machine, the versions of what it needs (null: absent), the fingerprint, energy sources, free disk in MiB."""
    described = machine.describe()
    versions = {name: version(name) for name in ("numpy", *LIBRARIES)}
    versions["opencv"] = next(filter(None, map(version, OPENCV)), None) or system_opencv()
    state = machine.state()
    return {
        "machine": described,
        "state": state,
        "versions": versions,
        "delegates": {name: machine.has_accelerator(found) for name, found in ACCELERATORS.items()},
        "energy": energy.found(),
        "free_mb": shutil.disk_usage(".").free / 2**20,
        "time": time.time(),
        "fingerprint": {
            "machine": machine.identity(),
            "architecture": described["architecture"],
            "cpu": described["cpu"],
            "cores": described["cores"],
            "kernel": described["kernel"],
            "python": described["python"],
            "governor": state["governor"],
            **versions,
        },
    }


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def system_opencv() -> str | None:
    """The version of Debian's python3-opencv, which pip does not know."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2.__version__


if __name__ == "__main__":
    print(f"edge-vision-answer: {json.dumps(probe())}")
