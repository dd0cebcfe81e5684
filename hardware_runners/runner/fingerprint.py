"""The enrolled fingerprint of a device: a figure is compared over time only while the machine stays the same."""

from __future__ import annotations

from typing import Any

from hardware_runners.runner.devices import Device
from hardware_runners.runner.errors import RunnerError


def compare(device: Device, found: dict[str, Any]) -> None:
    """RunnerError that names every key of the enrolled fingerprint that differs now; not the governor where each run
    sets it, since another run may have done so just now."""
    enrolled = device.fingerprint or {}
    changed = [
        f"{key} was {enrolled.get(key)!r}, is {found.get(key)!r}"
        for key in sorted((set(enrolled) | set(found)) - set(device.may_change))
        if enrolled.get(key) != found.get(key)
    ]
    if changed:
        raise RunnerError(
            f"device {device.name}: changed since it was enrolled: {'; '.join(changed)}; "
            f"if that is right: python -m hardware_runners enrol {device.name} {device.address.host} --again"
        )
