"""How much faster the exported files are than the references: the tables of what `stages.report.speedup` measured."""

from pathlib import Path

from edge.errors import UserError
from stages.report import summary

REFERENCE, TEACHER = "EfficientAD-S (torch, float32)", "teacher-onnx"
HEAD = ("Model", "p50 ms", "Times faster than EfficientAD-S", "Than the teacher")


def rows(found: dict) -> list[list[str]]:
    """A line of the table for each model."""
    latency, ratio = found["latency_ms"], found["times_faster_than_efficientad_s"]
    teacher = latency.get(TEACHER)
    against = {name: f"{teacher / value:.1f}" if teacher else summary.NONE for name, value in latency.items()}
    return [[name, summary.significant(latency[name]), f"{ratio[name]:.0f}", against[name]] for name in latency]


def markdown(folder: Path) -> str:
    """The table of all measurements in `folder`/speedup, one file each, named after what was measured."""
    paths = sorted((folder / "speedup").glob("*.json"))
    if not paths:
        raise UserError(f"{folder}/speedup: no measurement; python -m stages.report.speedup --output writes one")
    lines = [[path.stem, *line] for path in paths for line in rows(summary.read_json(path))]
    return summary.markdown_table(("Run", *HEAD), lines)
