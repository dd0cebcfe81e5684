"""How to reach a device: the `transport` of its inventory file picks a module."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from hardware_runners.runner.devices import Device


def measure(device: Device, model_folder: str | Path, runs: int, warmup: int, threads: list[int], holder: str) -> dict:
    """Measures a model folder on a device; Unavailable when it can't be reached or is busy, RunnerError when it or
    the model does not do what it should. `holder` tells others on the device who uses it."""
    threads = device.threads or threads
    recorder = None
    if device.energy.source == "meter":
        from hardware_runners.runner.energy.meter import Recorder

        recorder = Recorder(device.energy.model_dump())
    with recorder or nullcontext():
        if device.transport == "local":
            from hardware_runners.runner.transports import local

            found = local.measure(device, model_folder, runs, warmup, threads)
        else:
            from hardware_runners.runner.transports import ssh

            found = ssh.measure(device, model_folder, runs, warmup, threads, holder)
        if recorder:
            found["energy"] = recorder.energy(found["energy"]["windows"], found["clock_offset_s"])
    return found


def score(device: Device, model_folder: str | Path, pictures: dict[str, bytes], holder: str) -> dict:
    """The scores of pictures (name -> content of the file) on a device; errors as in `measure`."""
    if device.transport == "local":
        from hardware_runners.runner.transports import local

        return local.score(device, model_folder, pictures)
    from hardware_runners.runner.transports import ssh

    return ssh.score(device, model_folder, pictures, holder)
