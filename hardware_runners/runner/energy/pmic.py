"""Raspberry Pi 5: volts times amperes of the rails that its power management chip (PMIC) feeds."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

# Two formats by firmware: "VDD_CORE_A current(7)=1.11625000A" and "VDD_CORE_A=1.1163A".
LINE = re.compile(r"^\s*(\w+)_([AV])(?:\s+(?:current|volt)\(\d+\))?\s*=\s*([0-9.]+)[AV]\s*$", re.MULTILINE)
INPUTS = {"EXT5V", "BATT"}  # what feeds the rails, not a rail


class Pmic:
    """The sum of the rails in W. The 5 V input has a voltage only, so this is less than what the wall gives."""

    scope, counter = "PMIC rails", False

    def read(self) -> float:
        done = subprocess.run(["vcgencmd", "pmic_read_adc"], capture_output=True, text=True, timeout=5)
        return power(done.stdout)


def power(text: str) -> float:
    """The W in the output of `vcgencmd pmic_read_adc`; OSError when no rail has both voltage and current."""
    values: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for rail, unit, number in LINE.findall(text):
        values[unit][rail] = float(number)
    rails = (set(values["A"]) & set(values["V"])) - INPUTS
    if not rails:
        raise OSError("vcgencmd pmic_read_adc shows no rail with voltage and current (Raspberry Pi 5 only)")
    return sum(values["A"][rail] * values["V"][rail] for rail in sorted(rails))


def found() -> bool:
    if not shutil.which("vcgencmd"):
        return False
    try:
        Pmic().read()
    except (OSError, subprocess.TimeoutExpired):
        return False
    return True


def open(spec: dict[str, Any]) -> Pmic:
    if not shutil.which("vcgencmd"):
        raise OSError("no vcgencmd on this machine")
    return Pmic()
