"""Running Average Power Limit of Intel and AMD: an energy counter per package, readable by root only; absent in VMs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path("/sys/class/powercap")


class Rapl:
    """The sum of all packages in J since it was opened. A counter starts again at max_energy_range_uj: read it more
    often than that takes (a minute at 4 kW for the smallest range, 262 kJ)."""

    scope, counter = "CPU package", True

    def __init__(self, packages: list[Path]):
        self.packages = packages
        self.ranges = [_number(path / "max_energy_range_uj") for path in packages]
        self.last = [_number(path / "energy_uj") for path in packages]
        self.total = 0

    def read(self) -> float:
        for i, path in enumerate(self.packages):
            now = _number(path / "energy_uj")
            step = now - self.last[i]
            self.total += step if step >= 0 else step + self.ranges[i]
            self.last[i] = now
        return self.total / 1e6


def packages() -> list[Path]:
    """The folders of whole packages; their parts (core, uncore, dram) are inside their figure or beside it."""
    paths = [path for path in sorted(ROOT.glob("*-rapl:*")) if path.name.count(":") == 1]
    return [path for path in paths if _text(path / "name").startswith("package")]


def found() -> bool:
    return bool(packages())


def open(spec: dict[str, Any]) -> Rapl:
    found = packages()
    if not found:
        raise OSError("no RAPL package in /sys/class/powercap")
    return Rapl(found)


def _number(path: Path) -> int:
    return int(path.read_text())


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
