"""How to reach a device: the `transport` of its inventory file picks one function."""

from __future__ import annotations

from pathlib import Path

from hardware_runners import local
from hardware_runners.errors import RunnerError

# name -> function(device, model_folder, runs, warmup, threads) -> what remote.measure prints
TRANSPORTS = {
    "local": lambda device, *rest: local.measure(*rest),
}


def measure(device: dict, model_folder: str | Path, runs: int, warmup: int, threads: list[int]) -> dict:
    """Measures a model folder on the device of an inventory file; RunnerError when it can't be done."""
    name = device.get("transport")
    if name not in TRANSPORTS:
        known = ", ".join(sorted(TRANSPORTS))
        raise RunnerError(f"device {device.get('name')}: transport = {name!r}: unknown; choose one of {known}")
    return TRANSPORTS[name](device, model_folder, runs, warmup, threads)
