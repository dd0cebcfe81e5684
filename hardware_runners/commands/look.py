"""Looking at devices: the inventory, what a device says about itself, what it lacks."""

from __future__ import annotations

import json

from hardware_runners.runner import devices, fingerprint
from hardware_runners.runner.devices import Device
from hardware_runners.runner.errors import RunnerError

PIP = {"numpy": "numpy", "opencv": "opencv-python-headless"}
ROOM_MB = 200


def ask(device: Device) -> dict:
    """What remote.probe finds on a device."""
    if device.transport == "local":
        from hardware_runners.runner.remote import probe as local

        return local.probe()
    from hardware_runners.runner.transports import ssh

    return ssh.probe(device)


def list_devices(arguments) -> int:
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


def probe(arguments) -> int:
    """Prints what the device says; RunnerError when it is not the enrolled one."""
    device = devices.read(arguments.name)
    found = ask(device)
    print(json.dumps(found, indent=2))
    if device.fingerprint is not None:
        fingerprint.compare(device, found["fingerprint"])
    return 0


def doctor(arguments) -> int:
    """One line for each thing that a measurement needs; 1 when one is missing."""
    device = devices.read(arguments.name)
    problems = diagnose(device, ask(device))
    for line in problems:
        print(f"missing: {line}")
    if not problems:
        print(f"{device.name}: nothing is missing")
    return 1 if problems else 0


def diagnose(device: Device, found: dict) -> list[str]:
    """What the device lacks and the command, to be run there, that brings it."""
    versions, python = found["versions"], device.python or "python3"
    out = []
    if tuple(int(part) for part in found["machine"]["python"].split(".")[:2]) < (3, 9):
        out.append(f"Python 3.9 or newer (it has {found['machine']['python']}): sudo apt install python3")
    out += [f"{name}: {python} -m pip install {package}" for name, package in PIP.items() if not versions[name]]
    for name in device.runtime or [default_runtime(found)]:
        if name == "edgetpu":
            if not found["edgetpu"]:
                out.append("Edge TPU runtime: sudo apt install libedgetpu1-std (from Coral's package source)")
            if not (versions["ai-edge-litert"] or versions["tflite-runtime"]):
                out.append(f"a TFLite runtime: {python} -m pip install {default_runtime(found)}")
        elif not versions[name]:
            out.append(f"{name}: {python} -m pip install {name}")
    if found["free_mb"] < ROOM_MB:
        out.append(f"room: {found['free_mb']:.0f} MiB free, {ROOM_MB} wanted: df -h . && sudo apt clean")
    source = device.energy.source
    if source in ("rapl", "jetson", "pmic", "ina2xx") and source not in found["energy"]:
        out.append(f"energy source {source}: not found there; see hardware_runners/README.md")
    if device.fingerprint is not None:
        try:
            fingerprint.compare(device, found["fingerprint"])
        except RunnerError as error:
            out.append(str(error))
    return out


def default_runtime(found: dict) -> str:
    """The TFLite runtime to install: ai-edge-litert has no wheel for 32-bit ARM."""
    return "tflite-runtime" if found["machine"]["architecture"].startswith(("armv6", "armv7")) else "ai-edge-litert"
