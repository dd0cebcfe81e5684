"""What the processor can do with int8, read from Linux's /proc/cpuinfo."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
X86 = ("x86_64", "amd64", "i386", "i686", "x86")  # as `platform.machine()` names them, in small letters
INT8_X86 = {"avx512_vnni", "avx_vnni", "amx_int8"}  # as Linux names them
INT8 = INT8_X86 | {"asimddp", "i8mm"}


def int8_instructions() -> str | None:
    """The CPU's instructions for dot products of int8, which decide how fast such a network is; "none" without any,
    None where the system doesn't say."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return " ".join(sorted(INT8 & set(value.split()))) or "none"
    return None


def int8_may_overflow() -> bool:
    """Whether usual int8 kernels add pairs of products in 16 bits here, which is too little: x86 without VNNI, or x86
    of which the system doesn't say."""
    return platform.machine().lower() in X86 and not INT8_X86 & set((int8_instructions() or "").split())
