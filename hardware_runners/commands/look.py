"""Looking at devices: the inventory, what a device says about itself, what it lacks."""

from __future__ import annotations

import argparse
import json
from typing import Any

from edge.inference.formats import Format
from edge.inference.runtimes import ACCELERATORS, FORMATS
from hardware_runners.runner import devices, energy, fingerprint, transports
from hardware_runners.runner.devices import Device
from hardware_runners.runner.errors import RunnerError

PIP = {"numpy": "numpy", "opencv": "opencv-python-headless"}
ROOM_MB = 200
DEFAULT = "tflite"  # the format that a device without a list of runtimes is expected to run


def list_devices(arguments: argparse.Namespace) -> int:
    """One line per device."""
    plan = devices.plan()
    for name in devices.names():
        device = devices.read(name)
        mine = [entry["variant"] for entry in plan.values() if entry["device"] == name]
        where = f"ssh {device.ssh.host}" if device.ssh else "this machine"
        facts = [where, ", ".join(device.runtime) or "any runtime", f"energy {device.energy.source}"]
        if device.transport == "ssh" and device.fingerprint is None:
            facts.append("not enrolled")
        if device.emulated:
            facts.append("emulated")
        print(f"{name}: {'; '.join(facts)}; measures {', '.join(mine) or 'nothing'}")
    return 0


def probe(arguments: argparse.Namespace) -> int:
    """Prints what the device says; RunnerError when it is not the enrolled one."""
    device = devices.read(arguments.name)
    found = transports.probe(device)
    print(json.dumps(found, indent=2))
    if device.fingerprint is not None:
        fingerprint.compare(device, found["fingerprint"])
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """One line for each thing that a measurement needs; 1 when one is missing."""
    device = devices.read(arguments.name)
    problems = diagnose(device, transports.probe(device))
    for line in problems:
        print(f"missing: {line}")
    if not problems:
        print(f"{device.name}: nothing is missing")
    return 1 if problems else 0


def diagnose(device: Device, found: dict[str, Any]) -> list[str]:
    """What the device lacks and the command, to be run there, that brings it."""
    versions, python = found["versions"], device.interpreter
    out = []
    if tuple(int(part) for part in found["machine"]["python"].split(".")[:2]) < (3, 9):
        out.append(f"Python 3.9 or newer (it has {found['machine']['python']}): sudo apt install python3")
    out += [f"{name}: {python} -m pip install {package}" for name, package in PIP.items() if not versions[name]]
    for name in device.runtime or [FORMATS[DEFAULT].pip(found["machine"]["architecture"])]:
        if name in ACCELERATORS:
            out += accelerator(FORMATS[name], found, python)
        elif not versions[name]:
            out.append(f"{name}: {python} -m pip install {name}")
    if found["free_mb"] < ROOM_MB:
        out.append(f"room: {found['free_mb']:.0f} MiB free, {ROOM_MB} wanted: df -h . && sudo apt clean")
    source = device.energy.source
    if source in energy.SOURCES and source not in found["energy"]:
        out.append(f"energy source {source}: not found there; see hardware_runners/README.md")
    if device.fingerprint is not None:
        try:
            fingerprint.compare(device, found["fingerprint"])
        except RunnerError as error:
            out.append(str(error))
    return out


def accelerator(wanted: Format, found: dict[str, Any], python: str) -> list[str]:
    """What the device lacks to run models on an accelerator."""
    out = []
    if not found["delegates"][wanted.name]:
        out.append(f"{wanted.title} runtime: {ACCELERATORS[wanted.name].install}")
    if not any(found["versions"][library.pip] for library in wanted.libraries):
        package = wanted.pip(found["machine"]["architecture"])
        out.append(f"a library for it: {python} -m pip install {package}")
    return out
