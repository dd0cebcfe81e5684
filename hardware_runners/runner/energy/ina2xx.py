"""An external INA219 or INA226 on the device's I2C bus, bound to the kernel's ina2xx driver."""

from __future__ import annotations

from typing import Any

from hardware_runners.runner.energy import hwmon

NAMES = ("ina219", "ina226", "ina220", "ina230", "ina231")


def found() -> bool:
    return bool(hwmon.chips(*NAMES))


def open(spec: dict[str, Any]) -> hwmon.Channel:
    """The only such chip, or the one whose hwmon folder spec["label"] names. in1 is the bus, curr1 the current."""
    chips = hwmon.chips(*NAMES)
    if spec.get("label"):
        chips = [chip for chip in chips if chip.name == spec["label"]]
    if len(chips) != 1:
        raise OSError(f"{len(chips)} INA219/INA226 in /sys/class/hwmon; energy.label has to name one folder there")
    return hwmon.Channel(chips[0], 1, scope=spec.get("scope") or "the rail that the sensor sits in")
