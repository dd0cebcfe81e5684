"""The numbers that options take; every command checks its own before it does anything."""

from __future__ import annotations

import argparse

from edge.errors import UserError

# option: (least, most, whether the least itself is allowed)
LIMITS = {
    "runs": (2, 10_000_000, True),
    "parts": (2, 100_000, True),
    "depth": (9, 16, True),
    "seed": (0, 2**63 - 1, True),
    "smallest_face": (4, 16384, True),
    "motion": (0, 255, True),
    "rate": (0, 1e6, True),
    "segment": (0, 1e6, True),
    "seconds": (0, 1e9, False),
    "region_level": (0, 1, True),
    "region_area": (0, 1, True),
    "steady": (1, 1_000_000, True),
    "max_pixels": (1, 2**40, True),
    "false_alarm_rate": (0, 1, False),
}


def check(arguments: argparse.Namespace) -> None:
    """UserError for an option that is no number (nan) or lies outside its limits; those not given are None."""
    for name, (least, most, included) in LIMITS.items():
        value = getattr(arguments, name, None)
        if value is None:
            continue
        number = f"{value:.15g}" if isinstance(value, float) else str(value)
        shown = f"--{name.replace('_', '-')} {number}"
        if value != value:  # nan
            raise UserError(f"{shown}: must be a number")
        if value < 0 <= least == 0:
            raise UserError(f"{shown}: must not be negative")
        if value < least:
            raise UserError(f"{shown}: must be at least {least:g}")
        if value == least and not included:
            raise UserError(f"{shown}: must be above {least:g}")
        if value > most:
            raise UserError(f"{shown}: must be at most {most:g}")
