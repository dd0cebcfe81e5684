"""What a measured machine is, and the state it is in: read from Linux files, null where one can't be read."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from edge.inference.formats import Accelerator
from edge.processor import int8_instructions

CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")
THERMAL = Path("/sys/class/thermal")
THROTTLE_COUNT = Path("/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count")  # x86


def describe() -> dict[str, Any]:
    """What stays the same between two measurements; memory in MiB."""
    return {
        "platform": platform.system(),
        "architecture": platform.machine(),
        "cpu": cpu_model(),
        "int8": int8_instructions(),
        "cores": cores(),
        "memory_mb": _kilobytes("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def state() -> dict[str, Any]:
    """What may change between two measurements: governor, MHz and degrees Celsius of now, throttling (Raspberry Pi:
    flags, 0x0 is none; x86: a count since the start), load average of 1 min."""
    frequency = _number(CPU / "scaling_cur_freq")
    zones = THERMAL.glob("thermal_zone*/temp")
    temperatures = [found / 1000 for path in zones if (found := _number(path)) is not None]
    return {
        "governor": _text(CPU / "scaling_governor"),
        "frequency_mhz": None if frequency is None else frequency / 1000,
        "temperature_c": max(temperatures) if temperatures else None,
        "throttling": throttling(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def throttling() -> str | None:
    """What the machine says about its throttling, as it says it."""
    if shutil.which("vcgencmd"):
        try:
            done = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip().partition("=")[2] or None
    return _text(THROTTLE_COUNT)


def identity() -> str | None:
    """A short hash of the machine's own id, which itself is confidential."""
    found = _text(Path("/etc/machine-id"))
    return hashlib.sha256(found.encode()).hexdigest()[:12] if found else None


def has_library(name: str) -> bool:
    """Whether the linker finds a shared library."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def has_accelerator(wanted: Accelerator) -> bool:
    """Whether an accelerator's library is there, and the program that it needs."""
    return has_library(wanted.library) and not (wanted.program and wanted.found_program() is None)


def cores() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str | None:
    """The name of the CPU (x86), else of the board (ARM)."""
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() == "model name" and value.strip():
            return value.strip()
    return (_text(Path("/proc/device-tree/model")) or "").strip("\0") or platform.processor() or None


def peak_rss_mb() -> float:
    """The most memory this process has held, in MiB. Linux counts VmHWM from the start of the program, whereas
    ru_maxrss begins with the memory of the process that started it."""
    peak = _kilobytes("/proc/self/status", "VmHWM")
    if peak is not None:
        return peak
    import resource

    value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return value / 2**20 if platform.system() == "Darwin" else value / 2**10


def _kilobytes(path: str, key: str) -> float | None:
    """The value of a `key:  123 kB` line, in MiB."""
    for line in (_text(Path(path)) or "").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> float | None:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None
