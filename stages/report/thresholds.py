"""The table of thresholds: what each, set on good validation pictures alone, lets through on the test pictures."""

from stages.common.shares import percent
from stages.report.formatting import NONE, significant

HEAD = ("Variant", "Rate", "Threshold", "False alarms", "Recall", "TP", "FN", "FP", "TN", "True rate (95 %)")
UNSHOWN = "*"  # behind a rate that is too small for the good validation pictures
COUNTS = ("found", "missed", "false_alarms", "passed")
DATA_HEAD = ("variant", "rate", "threshold", "low", "high", "shown", *COUNTS)


def rows(evals: dict) -> list[dict]:
    """{plain, variant, cells, own} of every threshold that `evaluate` judged; own: the one that the model has set."""
    out = []
    for name, found in evals.items():
        for one in found.get("thresholds", []):
            rate = percent(one["rate"]) + ("" if one["shown"] else UNSHOWN)
            true = f"{percent(one['low'])} to {percent(one['high'])}"
            cells = [rate, significant(one["value"]), false_alarms(one), recall(one)]
            cells += [*(str(one[key]) for key in COUNTS), true]
            own = one["rate"] == found["false_alarm_rate"]
            out.append({"plain": [name, *cells], "variant": name, "cells": cells, "own": own})
    return out


def matrices(evals: dict) -> list[dict]:
    """{variant, threshold, recall, false_alarms and the four counts} of every variant with its own threshold."""
    out = []
    for name, found in evals.items():
        if counts := found.get("confusion"):
            shares = {"recall": recall(counts), "alarms": false_alarms(counts)}
            out.append({"variant": name, "threshold": significant(found["threshold"]), **shares, "counts": counts})
    return out


def data(evals: dict) -> list[tuple]:
    """The rows for a CSV file, columns DATA_HEAD."""
    keys = ("rate", "value", "low", "high", "shown", *COUNTS)
    return [(name, *(one[key] for key in keys)) for name, found in evals.items() for one in found.get("thresholds", [])]


def notes(evals: dict) -> list[str]:
    """What the thresholds rest on and what they can't show."""
    how: dict[str, list[str]] = {}
    for name, found in evals.items():
        how.setdefault(found["threshold_method"], []).append(name)
    out = [f"{method[:1].upper()}{method[1:]}: {', '.join(names)}." for method, names in how.items()]
    if any(not one["shown"] for found in evals.values() for one in found.get("thresholds", [])):
        out.append(f"{UNSHOWN} So few good validation pictures can't show a rate as small as this.")
    return out


def false_alarms(counts: dict) -> str:
    """The share of good test pictures above the threshold."""
    return _share(counts["false_alarms"], counts["false_alarms"] + counts["passed"])


def recall(counts: dict) -> str:
    """The share of defects above the threshold."""
    return _share(counts["found"], counts["found"] + counts["missed"])


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else NONE
