"""Where the milliseconds of a file go, operator by operator: the tables of what `experiments profile` measured."""

from pathlib import Path

from edge.errors import UserError
from experiments import provenance
from stages.report.formatting import NONE, count, markdown_list, markdown_table, significant
from stages.report.summary import read_json

HEAD = ("#", "Operator", "Shape", "MACs", "ms", "Share", "GMAC/s", "Of the peak")
KIND_HEAD = ("Operator", "How many", "MACs", "ms", "Share", "GMAC/s", "Of the peak")


def figures(macs: int, ms: float, found: dict) -> list[str]:
    """MACs, ms, share of the file's time, GMAC/s and share of the peak, for a table. None of the last two for what has
    no MACs or takes no time that can be measured."""
    speed = macs / ms / 1e6 if macs and ms > found["standard_error_ms"] else None
    fast = [NONE, NONE] if speed is None else [significant(speed), f"{speed / found['peak_gmacs']:.0%}"]
    return [count(macs) if macs else NONE, f"{ms:.4f}", f"{ms / found['whole_ms']:.1%}", *fast]


def totals(found: dict) -> dict[str, tuple[int, float]]:
    """MACs and ms of the sum of all rows, with the call, and of the whole file."""
    total = sum(row["macs"] for row in found["rows"])
    return {
        "sum": (total, found["call_ms"] + sum(row["ms"] for row in found["rows"])),
        "whole file": (total, found["whole_ms"]),
    }


def tables(found: dict) -> str:
    """The operators in their order, with the sum beside the whole; then the kinds of operators, the slowest first."""
    rows = [[NONE, "call, input", NONE, *figures(0, found["call_ms"], found)]]
    rows += [
        [str(i), row["operator"], row["shape"], *figures(row["macs"], row["ms"], found)]
        for i, row in enumerate(found["rows"])
    ]
    rows += [[NONE, name, NONE, *figures(*values, found)] for name, values in totals(found).items()]
    kinds: dict[str, list[dict]] = {}
    for row in found["rows"]:
        kinds.setdefault(row["operator"], []).append(row)
    summed = [
        (name, len(of), sum(row["macs"] for row in of), sum(row["ms"] for row in of)) for name, of in kinds.items()
    ]
    summed.sort(key=lambda one: -one[3])
    by_kind = [[name, number, *figures(total, ms, found)] for name, number, total, ms in summed]
    return f"{markdown_table(HEAD, rows)}\n\n{markdown_table(KIND_HEAD, by_kind)}"


def notes(found: dict) -> list[str]:
    runtime, where = found["runtime"], found["machine"]
    return [
        f"{where['cpu']} ({where['int8'] or 'no int8 instructions'}), {runtime['name']} {runtime['version']} "
        f"({runtime['delegate'] or 'no delegate'}), one thread, {found['rounds']} rounds.",
        f"Peak: {found['peak_gmacs']:.0f} GMAC/s, the fastest dense int8 product in the same rounds.",
        f"An operator's ms: the median difference of the file cut after and before it, known to about "
        f"{found['standard_error_ms'] * 1000:.1f} µs. One below that, or negative, costs next to "
        "nothing.",
    ]


def markdown(folder: Path) -> str:
    """The tables of `folder`/profile.json, and which code made it."""
    path = folder / "profile.json"
    if not path.exists():
        raise UserError(f"{path}: no measurement; python -m experiments profile --output writes one")
    found = read_json(path)
    return f"{tables(found)}\n\n{markdown_list([*notes(found), provenance.sentence(found)])}"
