"""Figures as text: three significant digits, units, an en dash for what is unknown; and tables in Markdown."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

NONE = "\u2013"  # an en dash
TEXT_COLUMNS = (
    "Variant",
    "Device",
    "Step",
    "Changed",
    "Run",
    "Model",
    "Method",
    "Condition",
    "Kernels",
    "Criterion",
    "Operator",
    "Shape",
    "Embedding",
    "Region",
    "Runtime",
    "Trained on",
    "ConvLSTM",
)  # aligned to the left


def base_names(networks: str | list[str]) -> list[str]:
    """The name of a network, or of each of several, wherever they were loaded from."""
    return [Path(name).name for name in ([networks] if isinstance(networks, str) else networks)]


def score(value) -> str:
    """A figure from 0 to 1, e.g. "0.913"; an en dash for None."""
    return NONE if value is None else f"{value:.3f}"


def mean_and_deviation(values: Sequence) -> str:
    """Mean and sample standard deviation of scores over runs, e.g. "0.951 ± 0.010"; of one that alone; an en dash where
    one has none."""
    if any(value is None for value in values):
        return NONE
    return score(mean(values)) + (f" ± {score(stdev(values))}" if len(values) > 1 else "")


def significant(value, unit: str = "") -> str:
    """Three significant digits without an exponent, e.g. "0.0123", "4.56", "1,230"."""
    if value is None:
        return NONE
    near = _rounded(value)
    text = f"{value:#.3g}".rstrip(".") if abs(near) < 1000 else f"{near:,.0f}"
    return (f"{value:.6f}".rstrip("0") if "e" in text else text) + unit


def size(value) -> str:
    """Bytes as kB or MB of 1000."""
    if value is None:
        return NONE
    return significant(value / 1e6, " MB") if _rounded(value) >= 1e6 else significant(value / 1e3, " kB")


def count(value) -> str:
    """E.g. "1.2 M" or "340 k"."""
    if value is None:
        return NONE
    for limit, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if _rounded(value) >= limit:
            return significant(value / limit, letter)
    return str(value)


def _rounded(value) -> float:
    """To three significant digits, which may carry 999.6 over to 1000."""
    return float(f"{value:.3g}")


def kind(how: str) -> str:
    """The first words of how a figure came about: measured, estimated, predicted or not measured."""
    return how.partition(" (")[0]


def code(record: dict) -> str:
    """Which code made a published record, e.g. "commit 1a2b3c4 with uncommitted changes"."""
    found = record.get("code")
    if not found:
        return "code not recorded"
    return f"commit {found['commit'][:7]}" + ("" if found["clean"] else " with uncommitted changes")


def markdown_table(head, rows) -> str:
    """A Markdown table, figures to the right."""
    rule = ["---" if name in TEXT_COLUMNS else "--:" for name in head]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in (head, rule, *rows))


def markdown_list(notes) -> str:
    """The notes as a Markdown list."""
    return "\n".join(f"- {note}" for note in notes)
