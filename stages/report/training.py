"""Training curves, from the files that the stages log to."""

import csv
from collections.abc import Iterable
from pathlib import Path

from stages.report import plots
from stages.report.plots import Drawn

CURVES = Path("reports/curves")
WIDEST = 30  # characters of a title beside that of the next panel


def files(baselines: Iterable[str]) -> list[Path]:
    """What the stages logged; curves of a baseline that params.yaml no longer has lie there still, and are left out."""
    present = {f"baseline-{name}" for name in baselines}
    of_stage = {file: file.relative_to(CURVES).parts[0] for file in sorted(CURVES.glob("*/**/*.tsv"))}
    return [file for file, stage in of_stage.items() if stage in present or not stage.startswith("baseline-")]


def curves(source: Path, files: list[Path]) -> Drawn | None:
    """One panel per TSV file, each below `source`/<stage>; None when there is none."""
    found = []
    for file in files:
        with open(file, newline="") as stream:
            lines = [line for line in csv.DictReader(stream, delimiter="\t") if line.get("step")]
        name = next((key for key in lines[0] if key not in ("step", "timestamp")), None) if lines else None
        if name:
            title = f"{file.relative_to(source).parts[0]}: {name}"
            found.append((title, [float(line["step"]) for line in lines], [float(line[name]) for line in lines]))
    if not found:
        return None
    figure, panels = plots.grid(len(found), 2.3)
    for axes, (title, steps, values) in zip(panels, found, strict=True):
        axes.plot(steps, values, color="#3b6ea8", lw=1.6, marker="o" if len(steps) < 3 else None, ms=4)
        axes.set_title(title.replace(": ", ":\n") if len(title) > WIDEST else title, fontsize=9.5)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
    rows = [(title, step, value) for title, steps, values in found for step, value in zip(steps, values, strict=True)]
    return Drawn(figure, ("curve", "step", "value"), rows)
