"""How much faster the exported files are than the references: the tables of what `experiments speedup` measured."""

from collections.abc import Collection
from pathlib import Path

from edge.errors import UserError
from experiments import provenance
from stages.report.formatting import NONE, markdown_list, markdown_table, significant
from stages.report.summary import read_json

NAME = "EfficientAD-S"
HEAD = (
    "Model",
    "p50 ms",
    "p10 to p90",
    f"Times faster than {NAME} in its best runtime",
    "Than in eager torch",
    "Than the teacher",
)
AGAIN = ("Again at once, p50 ms", "Times faster")


def rival(runtime: str) -> str:
    """What EfficientAD-S in that runtime is called."""
    return f"{NAME} ({runtime})"


EAGER = rival("torch, float32")


def table_rows(found: dict, models: Collection[str] | None = None) -> list[list[str]]:
    """A row for each model, or for those of `models`. Earlier records have no second call, or eager torch alone: no
    best runtime."""
    latency, spread = found["latency_ms"], found.get("p10_p90_ms", {})
    best, again = found.get("best_rival"), found.get("again_ms", {})
    against = (latency.get(best), latency.get(EAGER), latency.get(found.get("teacher")))
    rows = []
    for name in latency if models is None else models:
        row = [name, significant(latency[name])]
        row.append(" to ".join(map(significant, spread[name])) if name in spread else NONE)
        row += [_ratio(one, latency[name]) for one in against]
        rows.append([*row, significant(again.get(name)), _ratio(again.get(best), again.get(name))])
    return rows


def _ratio(other: float | None, value: float | None) -> str:
    return NONE if other is None or value is None else f"{other / value:.1f}"


def notes(run: str, found: dict) -> list[str]:
    """Where a record was measured, and which runtime was best for EfficientAD-S or why that isn't known."""
    start = f"{run}: " if run else ""
    if "best_rival" not in found:
        return [f"{start}{NAME} ran in eager torch alone; its best runtime is not known there."]
    machine, versions = found["machine"], found["versions"]
    where = f"{machine['cpu']} ({machine['int8']}), {', '.join(f'{k} {v}' for k, v in versions.items())}"
    out = [f"{start}{where}; the best was {found['best_rival']}. {found['rounds']} rounds."]
    return out + [f"{start}{name} not measured: {why}" for name, why in found["not_measured"].items()]


def markdown(folder: Path) -> str:
    """Two tables of all measurements in `folder`/speedup, one file each, named after what was measured: our models
    with the best of the others, and EfficientAD-S in every runtime."""
    measured = {path.stem: read_json(path) for path in sorted((folder / "speedup").glob("*.json"))}
    if not measured:
        raise UserError(f"{folder}/speedup: no measurement; python -m experiments speedup --output writes one")
    marks, code = provenance.footnotes([[found] for found in measured.values()])
    head = ("Run", *HEAD, *AGAIN) if any("again_ms" in found for found in measured.values()) else ("Run", *HEAD)
    rows = [
        [f"{name}{mark}", *row][: len(head)]
        for (name, found), mark in zip(measured.items(), marks, strict=True)
        for row in table_rows(found, _shown(found))
    ]
    said = [note for name, found in measured.items() for note in notes(name, found)]
    tables = [markdown_table(head, rows), *_runtimes(measured), markdown_list([*said, *code])]
    return "\n\n".join(tables)


def _shown(found: dict) -> list[str]:
    """The models of a record without the runtimes that weren't the best."""
    others = set(found.get("rivals", [EAGER])) - {found.get("best_rival", EAGER)}
    return [name for name in found["latency_ms"] if name not in others]


def _runtimes(measured: dict[str, dict]) -> list[str]:
    """The p50 of EfficientAD-S by runtime and run, where all were tried."""
    tried = {run: found for run, found in measured.items() if "rivals" in found}
    names = dict.fromkeys(name for found in tried.values() for name in (*found["rivals"], *found["not_measured"]))
    rows = [[name, *(significant(found["latency_ms"].get(name)) for found in tried.values())] for name in names]
    return [markdown_table(("Model", *(f"{run}, p50 ms" for run in tried)), rows)] if tried else []
