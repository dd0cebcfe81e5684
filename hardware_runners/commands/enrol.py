"""Enrols a device: connect, look at it, write inventory file, plan and the list of results in dvc.yaml."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from edge.errors import UserError
from edge.inference.runtimes import DELEGATES, LIBRARIES, RUNS
from hardware_runners.commands import look
from hardware_runners.runner import devices, transports
from hardware_runners.runner.devices import Device
from hardware_runners.runner.errors import RunnerError
from stages.common import yamlfile


def run(arguments: argparse.Namespace) -> int:
    """Writes nothing unless the device answered."""
    name = arguments.name
    path = devices.INVENTORY / f"{name}.yaml"
    if path.exists() != arguments.again:
        what = "no such device; leave out --again" if arguments.again else "is there; use --again or another name"
        raise RunnerError(f"{path}: {what}")
    device = devices.read(name) if arguments.again else new_device(arguments)
    found = transports.probe(device)
    show(name, found)
    if arguments.again:
        tree = {**devices.read_yaml(path), "fingerprint": found["fingerprint"]}
        write(path, means(path, with_fingerprint(path.read_text(), found), tree))
        print(f"wrote the fingerprint in {path}")
        return 0
    runtimes = [name for name in LIBRARIES if found["versions"][name] and name not in DELEGATES]
    variants = choose(arguments.variants, runtimes)
    plan = devices.plan()
    items = {f"{name}-{variant}": {"device": name, "variant": variant} for variant in variants}
    new = [item["variant"] for key, item in items.items() if key not in plan]
    text = means(devices.PLAN, with_items(devices.PLAN.read_text(), name, new), {"plan": {**items, **plan} or None})
    write(path, inventory_text(device, runtimes, found))
    write(devices.PLAN, text)
    done = subprocess.run([sys.executable, "-m", "stages.report.dependencies"], capture_output=True, text=True)
    if done.returncode:
        raise RunnerError(f"wrote {path} and {devices.PLAN}, but not the results in dvc.yaml: {done.stderr.strip()}")
    print(f"wrote {path}, {devices.PLAN} and the results in dvc.yaml: {', '.join(variants) or 'no variant'}")
    for line in look.diagnose(devices.read(name), found):
        print(f"missing: {line}")
    return 0


def new_device(arguments: argparse.Namespace) -> Device:
    """A device with nothing but an address; RunnerError when name or address can't be one."""
    user, _, host = arguments.address.rpartition("@")
    address = {"host": host, "port": arguments.port, "user": user or None}
    tree = {"name": arguments.name, "transport": "ssh", "ssh": address, "python": arguments.python}
    return devices.check(tree, "enrol")


def show(name: str, found: dict[str, Any]) -> None:
    """What was found, for people."""
    for key, value in found["fingerprint"].items():
        print(f"{name}: {key}: {value if value is not None else 'none'}")
    print(f"{name}: energy sources: {', '.join(found['energy']) or 'none'}; free disk: {found['free_mb']:.0f} MiB")


def choose(wanted: list[str] | None, runtimes: list[str]) -> list[str]:
    """The variants to measure: those asked for, else all that a runtime of the device can run."""
    variants = known_variants()
    unknown = set(wanted or []) - set(variants)
    if unknown:
        raise RunnerError(f"params.yaml: no variant {', '.join(sorted(unknown))}; choose from {', '.join(variants)}")
    formats = {format for name in runtimes for format in RUNS[name]}
    return [name for name, format in variants.items() if (name in wanted if wanted else format in formats)]


def known_variants() -> dict[str, str]:
    """The variants of params.yaml and their formats; RunnerError where it holds none, or one without a format."""
    path = Path("params.yaml")
    tree = devices.read_yaml(path)
    variants = tree.get("variants") if isinstance(tree, dict) else None
    if not isinstance(variants, dict):
        raise RunnerError(f"{path}: holds no variants; correct it")
    for name, variant in variants.items():
        devices.check_name(name, f"{path}: variants")
        if not isinstance(variant, dict) or not isinstance(variant.get("format"), str):
            raise RunnerError(f"{path}: variants.{name}: has no format; correct it")
    return {name: variant["format"] for name, variant in variants.items()}


def inventory_text(device: Device, runtimes: list[str], found: dict[str, Any]) -> str:
    """The inventory file, the fingerprint at its end."""
    source = found["energy"][0] if found["energy"] else "none"
    energy = {"source": source} if found["energy"] else {"source": "none", "reason": "no energy source for this device"}
    tree = {
        "name": device.name,
        "transport": "ssh",
        "ssh": device.address.model_dump(exclude_none=True),
        "python": device.python,
        "runtime": runtimes,
        "energy": energy,
    }
    head = "# Enrolled by python -m hardware_runners enrol. Every key: hardware_runners/README.md.\n"
    return head + yaml.safe_dump(tree, sort_keys=False) + fingerprint_text(found)


def fingerprint_text(found: dict[str, Any]) -> str:
    return yaml.safe_dump({"fingerprint": found["fingerprint"]}, sort_keys=False)


def with_fingerprint(text: str, found: dict[str, Any]) -> str:
    """The text of an inventory file with a new fingerprint in the place of the old one, or at the end; every other key
    and remark stays."""
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)  # devices.read has read it
    old = [pair for pair in root.value if pair[0].value == "fingerprint"]
    new = fingerprint_text(found)
    if old:
        key, value = old[0]
        text = text[: key.start_mark.index] + new.rstrip("\n") + text[end(value) :]
    else:
        text = text.rstrip("\n") + "\n" + new
    return text


def end(node: yaml.Node) -> int:
    """Where the last value in it ends: a block itself ends only before the next key, behind remarks."""
    if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        return end(node.value[-1][1])
    return int(node.end_mark.index)


def with_items(text: str, name: str, variants: list[str]) -> str:
    """plan.yaml with one line for each variant."""
    lines = [f"  {name}-{variant}: {{device: {name}, variant: {variant}}}\n" for variant in variants]
    return re.sub(r"^plan: *(\{\} *)?$", "plan:", text, flags=re.MULTILINE).rstrip("\n") + "\n" + "".join(lines)


def means(path: Path, text: str, tree: object) -> str:
    """The text, when it says just this; RunnerError when the file is written in a way that we can't add to."""
    try:
        if yamlfile.parse(text, path) == tree:
            return text
    except UserError:
        pass
    raise RunnerError(f"{path}: can't be changed in place; write it as keys below each other, as enrol does")


def write(path: Path, text: str) -> None:
    """Replaces a file in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
