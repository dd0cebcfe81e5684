"""Measures on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hardware_runners.runner.devices import Device
from hardware_runners.runner.errors import RunnerError
from hardware_runners.runner.remote import job
from hardware_runners.runner.remote import probe as remote
from hardware_runners.runner.transports import jobs

ROOT = Path(__file__).resolve().parents[3]


def measure(
    device: Device, model_folder: str | Path, runs: int, warmup: int, threads: list[int], holder: str = ""
) -> dict[str, Any]:
    """What the commands of `jobs` printed; RunnerError with the last line of the one that failed."""
    commands = jobs.commands(sys.executable, device, str(model_folder), runs, warmup, threads)
    found = jobs.merge(device, [_run(device, command) for command in commands])
    return {**found, "clock_offset_s": 0.0}


def score(
    device: Device,
    model_folder: str | Path,
    pictures: dict[str, bytes],
    holder: str = "",
    kernels: str | None = None,
    maps: bool = False,
) -> dict[str, Any]:
    """What remote.score says about the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in pictures.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return _run(device, jobs.score(sys.executable, device, str(model_folder), folder, kernels, maps))


def probe(device: Device) -> dict[str, Any]:
    """What hardware_runners.runner.remote.probe finds on this machine."""
    return remote.probe()


def _run(device: Device, command: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), job.STARTED_BY: str(os.getpid())}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        raise RunnerError(f"device {device.name}: {lines[-1].removeprefix('error: ')}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
