"""The commands that one measurement consists of, the same on every machine; each prints JSON."""

from __future__ import annotations

from typing import Any

from edge.inference.runtimes import DELEGATES
from hardware_runners.runner.devices import Device
from hardware_runners.runner.energy import SOURCES

MEASURE = "hardware_runners.runner.remote.measure"
SCORE = "hardware_runners.runner.remote.score"
POWER = "hardware_runners.runner.remote.power"
WINDOWED = (*SOURCES, "meter")  # energy sources that need long windows of inference


def commands(python: str, device: Device, model: str, runs: int, warmup: int, threads: list[int]) -> list[list[str]]:
    """One process per thread count, so that start and memory are that block's own; then the energy windows."""
    out = []
    for count in threads:
        command = [python, "-m", MEASURE, model, "--runs", str(runs), "--warmup", str(warmup)]
        out.append([*command, "--threads", str(count), *_delegate(device)])
    if device.energy.source in WINDOWED:
        source = device.energy.model_dump_json()
        out.append([python, "-m", POWER, model, "--threads", str(threads[0]), "--energy", source, *_delegate(device)])
    return out


def score(
    python: str, device: Device, model: str, pictures: str, kernels: str | None = None, maps: bool = False
) -> list[str]:
    """The command that scores a folder of pictures, on TFLite's own kernels of that name where one is given."""
    more = [*(("--kernels", kernels) if kernels else ()), *(("--maps",) if maps else ())]
    return [python, "-m", SCORE, model, pictures, *more, *_delegate(device)]


def _delegate(device: Device) -> list[str]:
    return [word for name in DELEGATES if name in device.runtime for word in ("--delegate", name)]


def merge(device: Device, results: list[dict[str, Any]]) -> dict[str, Any]:
    """The results of `commands` as one."""
    energy = results.pop() if device.energy.source in WINDOWED else None
    merged = {**results[0], "blocks": [block for result in results for block in result["blocks"]]}
    return {**merged, "energy": energy}
