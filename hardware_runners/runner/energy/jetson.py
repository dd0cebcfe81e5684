"""NVIDIA Jetson: the INA3221 on the module. Its channels differ between modules, so the rail is found by its label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hardware_runners.runner.energy import hwmon

MODULE = ("VDD_IN", "POM_5V_IN")  # the whole module: Orin and Xavier, the first Nano


def rails() -> dict[str, tuple[Path, int]]:
    """label -> (hwmon folder, channel)"""
    return {
        label: (folder, channel)
        for folder in hwmon.chips("ina3221", "ina3221x")
        for channel in (1, 2, 3)
        if (label := hwmon.text(folder / f"in{channel}_label"))
    }


def found() -> bool:
    return bool(rails())


def open(spec: dict[str, Any]) -> hwmon.Channel:
    """The rail of spec["label"], else the one of the whole module."""
    known = rails()
    wanted = [spec["label"]] if spec.get("label") else list(MODULE)
    for label in wanted:
        if label in known:
            return hwmon.Channel(*known[label], scope="module" if label in MODULE else f"rail {label}")
    raise OSError(f"no INA3221 rail {' or '.join(wanted)}; there are: {', '.join(known) or 'none'}")
