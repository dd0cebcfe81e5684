"""How to reach a device: the `transport` of its inventory file is the module here that has measure, score and probe."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from hardware_runners.runner.devices import Device


def measure(
    device: Device, model_folder: str | Path, runs: int, warmup: int, threads: list[int], holder: str
) -> dict[str, Any]:
    """Measures a model folder on a device; Unavailable when it can't be reached or is busy, RunnerError when it or
    the model does not do what it should. `holder` tells others on the device who uses it."""
    recorder = None
    if device.energy.source == "meter":
        from hardware_runners.runner.energy.meter import Recorder

        recorder = Recorder(device.energy.model_dump())
    with recorder or nullcontext():
        found: dict[str, Any] = _module(device).measure(
            device, model_folder, runs, warmup, device.threads or threads, holder
        )
        if recorder:
            found["energy"] = recorder.energy(found["energy"]["windows"], found["clock_offset_s"])
    return found


def score(
    device: Device,
    model_folder: str | Path,
    pictures: dict[str, bytes],
    holder: str,
    kernels: str | None = None,
    maps: bool = False,
) -> dict[str, Any]:
    """The scores of pictures (name -> content of the file) on a device, with its default kernels or others, and with
    `maps` what remote.score.unpack reads; errors as in `measure`."""
    found: dict[str, Any] = _module(device).score(device, model_folder, pictures, holder, kernels, maps)
    return found


def probe(device: Device) -> dict[str, Any]:
    """What remote.probe finds on a device; errors as in `measure`."""
    found: dict[str, Any] = _module(device).probe(device)
    return found


def _module(device: Device) -> ModuleType:
    """Imported when it is needed: asyncssh takes half a second."""
    return importlib.import_module(f"{__name__}.{device.transport}")
