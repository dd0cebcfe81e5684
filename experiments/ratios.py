"""How much faster the exported files are than the references: the tables of what `experiments speedup` measured."""

from pathlib import Path

from edge.errors import UserError
from experiments import provenance
from stages.report.formatting import NONE, markdown_list, markdown_table, significant
from stages.report.summary import read_json

REFERENCE = "EfficientAD-S (torch, float32)"
HEAD = ("Model", "p50 ms", "Times faster than EfficientAD-S", "Than the teacher")


def table_rows(found: dict) -> list[list[str]]:
    """A row for each model."""
    latency, ratio = found["latency_ms"], found["times_faster_than_efficientad_s"]
    teacher = latency.get(found.get("teacher"))
    against = {name: f"{teacher / value:.1f}" if teacher else NONE for name, value in latency.items()}
    return [[name, significant(latency[name]), f"{ratio[name]:.0f}", against[name]] for name in latency]


def markdown(folder: Path) -> str:
    """The table of all measurements in `folder`/speedup, one file each, named after what was measured."""
    measured = {path.stem: read_json(path) for path in sorted((folder / "speedup").glob("*.json"))}
    if not measured:
        raise UserError(f"{folder}/speedup: no measurement; python -m experiments speedup --output writes one")
    marks, code = provenance.footnotes([[found] for found in measured.values()])
    rows = [
        [f"{name}{mark}", *row]
        for (name, found), mark in zip(measured.items(), marks, strict=True)
        for row in table_rows(found)
    ]
    return f"{markdown_table(('Run', *HEAD), rows)}\n\n{markdown_list(code)}"
