"""Power monitors that Linux shows under /sys/class/hwmon: volts times amperes of one channel, or its own power."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/class/hwmon")


class Channel:
    """One channel of a power monitor; read() is in W. Sysfs gives mV, mA and µW."""

    counter = False

    def __init__(self, folder: Path, channel: int, scope: str):
        self.folder, self.channel, self.scope = folder, channel, scope
        power = folder / f"power{channel}_input"
        self.power = power if power.is_file() else None

    def read(self) -> float:
        if self.power:
            return int(self.power.read_text()) / 1e6
        volts = int((self.folder / f"in{self.channel}_input").read_text()) / 1e3
        return volts * int((self.folder / f"curr{self.channel}_input").read_text()) / 1e3


def chips(*names: str) -> list[Path]:
    """The hwmon folders of chips with these names."""
    return [path for path in sorted(ROOT.glob("hwmon*")) if text(path / "name") in names]


def text(path: Path) -> str:
    """A file's text without its line end; "" where there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
