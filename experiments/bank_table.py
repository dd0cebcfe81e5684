"""Bytes of a memory bank against image AUROC: the table and the plot of what `experiments banks` measured."""

from pathlib import Path

import numpy as np

from experiments import provenance
from stages.report import plots
from stages.report.formatting import markdown_list, markdown_table, mean_and_deviation, size
from stages.report.summary import read_json


def forms(rows: list[dict]) -> list[str]:
    """What the banks were made of, in the order of the rows."""
    return list(dict.fromkeys(row["form"] for row in rows))


def draw(rows: list[dict], path: Path) -> None:
    """Bytes of the bank against image AUROC, a line for each form: the mean of all draws, from lowest to highest."""
    plots.style()
    names = forms(rows)
    figure, axes = plots.plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    for form, marker, color in zip(names, plots.MARKERS, plots.colors(names).values(), strict=False):
        mine = [row for row in rows if row["form"] == form]
        at, values = [row["bytes"] / 1e3 for row in mine], [row["image_auroc"] for row in mine]
        mean = [float(np.mean(draws)) for draws in values]
        reach = [[middle - min(draws), max(draws) - middle] for middle, draws in zip(mean, values, strict=True)]
        axes.errorbar(
            at, mean, np.transpose(reach), marker=marker, color=color, label=form, mec="white", ms=7, capsize=3
        )
    axes.set(xscale="log", xlabel="memory bank in kB (log scale)", ylabel="image AUROC")
    plots.log_ticks(axes)
    axes.legend(frameon=False)
    plots.save(figure, path)


def markdown(folder: Path) -> str:
    """The table of `folder`/banks.json."""
    found = read_json(folder / "banks.json")
    by_ratio: dict[float, list[dict]] = {}
    for row in found["rows"]:
        by_ratio.setdefault(row["ratio"], []).append(row)
    table = []
    for ratio, rows in by_ratio.items():
        cells = [cell for row in rows for cell in (size(row["bytes"]), mean_and_deviation(row["image_auroc"]))]
        table.append([str(ratio), str(rows[0]["patches"]), *cells])
    draws = len(found["rows"][0]["image_auroc"])
    notes = [
        f"{found['images']} test pictures, features of {found['backbone']} in {found['dimensions']} dimensions, seed "
        f"{found['seed']}. Bytes of codes, grids and centroids. Distances in float32 to the decoded bank.",
        f"The banks hold train pictures alone; {draws} coreset{'s' * (draws > 1)} of each ratio, of other starts and "
        "projections (mean ± standard deviation). All are shown, and none was chosen by this.",
        provenance.sentence(found),
    ]
    head = [f"{form}, {what}" for form in forms(found["rows"]) for what in ("size", "AUROC")]
    return f"{markdown_table(('Coreset ratio', 'Patches', *head), table)}\n\n{markdown_list(notes)}"
