"""Energy foretold from counts, for devices without a sensor: multiply-accumulates and bytes times published figures.

M. Horowitz, "Computing's Energy Problem (and what we can do about it)", ISSCC 2014, figure 1.1.9 (45 nm, 0.9 V):
8-bit multiply 0.2 pJ, 32-bit add 0.1 pJ; 32-bit float multiply 3.7 pJ, add 0.9 pJ; DRAM 1.3 to 2.6 nJ per 64 bit.
It knows arithmetic and one reading of the weights, no caches, no control, no leakage, no newer process: a
scale to compare variants on, not what a device takes."""

from __future__ import annotations

from typing import Any

PJ_PER_MAC = {"int8": 0.2 + 0.1, "float32": 3.7 + 0.9}
PJ_PER_BYTE = (1300 / 8, 2600 / 8)
CITATION = "Horowitz, ISSCC 2014, 45 nm"


def estimate(macs: int, size_bytes: int, dtype: str) -> dict[str, Any]:
    """mJ of one inference by the mean of the DRAM figures, with the range that they span."""
    low, high = ((macs * PJ_PER_MAC[dtype] + size_bytes * pj) * 1e-9 for pj in PJ_PER_BYTE)
    return {
        "value_mj": (low + high) / 2,
        "low_mj": low,
        "high_mj": high,
        "method": "estimated",
        "source": CITATION,
        "scope": "arithmetic and weights from DRAM",
        "reason": None,
    }
