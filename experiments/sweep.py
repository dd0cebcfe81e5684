"""The table of published runs that differ from the published result in a few settings: what each change bought.

`python -m experiments publish NAME --beside` leaves their records in NAME/sweep.
"""

from pathlib import Path
from statistics import mean

from scipy.stats import spearmanr

from experiments import pareto, provenance, records
from experiments.records import FLOAT, INT8
from stages.report import resolution
from stages.report.ablation import mean_and_deviation
from stages.report.formatting import NONE, count, markdown_list, markdown_table, significant, size

HEAD: tuple[str, ...] = (
    "Changed",
    "Seeds",
    "Teacher AUROC",
    "Float AUROC",
    "int8 AUROC",
    "int8 AUPRO",
    "int8 val AUROC",
)
HEAD += ("MACs", "Size", "p50 ms")
ACCURACY = ((FLOAT, "image_auroc"), (INT8, "image_auroc"), (INT8, "aupro"), (INT8, "val_auroc"))


def table_rows(changes: dict[str, list[dict]]) -> list[list[str]]:
    """A row for each change."""
    out, steps = [], _steps(changes)
    for name, runs in changes.items():
        teacher = [(run.get("teacher") or {}).get("image_auroc") for run in runs]
        accuracy = [[run["steps"].get(step, {}).get(key) for run in runs] for step, key in ACCURACY]
        macs, bytes_, latency = (records.cost(changes, name, key) for key in ("macs", "size_bytes", "p50_ms"))
        costs = [count(macs), size(bytes_), significant(latency)]
        cells = [mean_and_deviation(values) for values in (teacher, *accuracy)]
        aupro = 1 + ACCURACY.index((INT8, "aupro"))
        cells[aupro] += resolution.mark(runs[0]["steps"][INT8], steps) if cells[aupro] != NONE else ""
        out.append([name, str(len(runs)), *cells, *costs])
    return out


def _steps(changes: dict[str, list[dict]]) -> list[dict]:
    """The int8 files of all runs; those of one change share their settings, and so the resolution of the AUPRO."""
    return [run["steps"][INT8] for runs in changes.values() for run in runs]


def markdown(folder: Path) -> str:
    """The table of all changes, which of them are on a Pareto front, and what validation pictures say of them."""
    changes = records.by_change(folder)
    marks, code = provenance.footnotes(list(changes.values()))
    rows = [[f"{name}{mark}", *cells] for (name, *cells), mark in zip(table_rows(changes), marks, strict=True)]
    notes = [
        "int8: by quantization-aware training, not pruned. Mean ± standard deviation over the seeds; measured on "
        "the exported files, latency of one thread in each run's own sitting.",
        *resolution.note(_steps(changes)),
    ]
    for key, title in (("p50_ms", "latency"), ("size_bytes", "size")):
        names = pareto.front(changes, key)
        if len(changes) > 1 and names:
            notes.append(f"Pareto front of int8 AUROC and {title}: {'; '.join(names)}.")
    if ranked := agreement(changes):
        notes.append(ranked)
    return f"{markdown_table(resolution.head(HEAD, _steps(changes)), rows)}\n\n{markdown_list(notes + code)}"


def agreement(changes: dict[str, list[dict]]) -> str | None:
    """How validation pictures would have ranked the candidates of the table: the rank correlation with test."""
    steps = [[run["steps"][INT8] for run in runs] for runs in changes.values()]
    if len(steps) < 3 or any(one.get("val_auroc") is None for mine in steps for one in mine):
        return None
    val, test = ([mean(one[key] for one in mine) for mine in steps] for key in ("val_auroc", "image_auroc"))
    if min(len(set(val)), len(set(test))) < 2:  # nothing to rank
        return None
    rank = spearmanr(val, test).statistic
    chosen = list(changes)[max(range(len(val)), key=val.__getitem__)]
    return (
        f"val AUROC: good validation pictures against CutPaste defects, without a test picture. Its rank correlation "
        f"with the test AUROC over the {len(val)} candidates is {rank:.2f}; it would have chosen: {chosen}."
    )
