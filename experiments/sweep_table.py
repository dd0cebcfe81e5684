"""The table of runs that differ in a few settings: what each change bought.

Those of a published result are in NAME/sweep, by `python -m experiments publish NAME --beside`; those of
`python -m experiments sweep` in the folder of their commit.
"""

from pathlib import Path
from statistics import mean

from scipy.stats import spearmanr

from experiments import pareto, provenance, records
from experiments.records import int8, unquantized
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
ACCURACY = ((unquantized, "image_auroc"), (int8, "image_auroc"), (int8, "aupro"))
DEFECTS = {None: "CutPaste", "families": "five families"}  # of the val AUROC; records that don't say it are older
OF = {"CutPaste": "CutPaste defects", "five families": "five families of synthetic defects"}


def table_rows(changes: dict[str, list[dict]]) -> list[list[str]]:
    """A row for each change."""
    out, steps = [], _steps(changes)
    for name, runs in changes.items():
        teacher = [(run.get("teacher") or {}).get("image_auroc") for run in runs]
        accuracy = [[step(run).get(key) for run in runs] for step, key in ACCURACY]
        macs, bytes_, latency = (records.cost(changes, name, key) for key in ("macs", "size_bytes", "p50_ms"))
        costs = [count(macs), size(bytes_), significant(latency)]
        cells = [mean_and_deviation(values) for values in (teacher, *accuracy)]
        cells[-1] += resolution.mark(int8(runs[0]), steps) if cells[-1] != NONE else ""
        out.append([name, str(len(runs)), *cells, _validation(runs, steps), *costs])
    return out


def _steps(changes: dict[str, list[dict]]) -> list[dict]:
    """The int8 files of all runs; those of one change share their settings, and so the resolution of the AUPRO."""
    return [int8(run) for runs in changes.values() for run in runs]


def _defects(steps: list[dict]) -> list[str]:
    """Which defects the val AUROC of these files is against; that of one kind says nothing about that of the other."""
    return sorted({DEFECTS[one.get("val_defects")] for one in steps if one.get("val_auroc") is not None})


def _validation(runs: list[dict], steps: list[dict]) -> str:
    """The val AUROC of one change, with its defects where the table (`steps`) has more than one kind of them."""
    mine = [int8(run) for run in runs]
    if len(kinds := _defects(mine)) != 1:
        return NONE
    cell = mean_and_deviation([one.get("val_auroc") for one in mine])
    return cell + (f" ({kinds[0]})" if cell != NONE and len(_defects(steps)) > 1 else "")


def markdown(folder: Path) -> str:
    """The table of a published result and the runs beside it."""
    return table(records.by_change(folder))


def table(changes: dict[str, list[dict]], compared: bool = True) -> str:
    """The table of all changes and, where they were tested on the same pictures (`compared`), which of them are on a
    Pareto front, and what validation pictures say of them."""
    marks, code = provenance.footnotes(list(changes.values()))
    rows = [[f"{name}{mark}", *cells] for (name, *cells), mark in zip(table_rows(changes), marks, strict=True)]
    runs = [run for mine in changes.values() for run in mine]
    trained = all(run["settings"]["compress"]["qat_epochs"] for run in runs)
    how = "by quantization-aware training, not pruned" if trained else "not pruned"
    timed = any(int8(run)["p50_ms"] is not None for run in runs)
    sitting = ", latency of one thread in each run's own sitting, of the runs on the first row's machine"
    notes = [
        f"int8: {how}. Mean ± standard deviation over the seeds; measured on "
        f"the exported files{sitting if timed else ''}.",
        *resolution.note(_steps(changes)),
    ]
    for key, title in (("p50_ms", "latency") if timed else ("macs", "MACs"), ("size_bytes", "size")):
        names = pareto.front(changes, key) if compared else []
        if len(changes) > 1 and names:
            notes.append(f"Pareto front of int8 AUROC and {title}: {'; '.join(names)}.")
    if len(kinds := _defects(_steps(changes))) > 1:
        notes.append(f"val AUROC: against {' or '.join(OF[kind] for kind in kinds)}, which can't be compared.")
    if not compared:
        notes.append("Tested on different pictures, so there is no Pareto front.")
    elif ranked := agreement(changes):
        notes.append(ranked)
    return f"{markdown_table(resolution.head(HEAD, _steps(changes)), rows)}\n\n{markdown_list(notes + code)}"


def agreement(changes: dict[str, list[dict]]) -> str | None:
    """How validation pictures would have ranked the candidates of the table: the rank correlation with test."""
    steps, kinds = [[int8(run) for run in runs] for runs in changes.values()], _defects(_steps(changes))
    if len(steps) < 3 or len(kinds) != 1 or any(one.get("val_auroc") is None for mine in steps for one in mine):
        return None
    val, test = ([mean(one[key] for one in mine) for mine in steps] for key in ("val_auroc", "image_auroc"))
    if min(len(set(val)), len(set(test))) < 2:  # nothing to rank
        return None
    rank = spearmanr(val, test).statistic
    chosen = list(changes)[max(range(len(val)), key=val.__getitem__)]
    return (
        f"val AUROC: good validation pictures against {OF[kinds[0]]}, without a test picture. Its rank "
        f"correlation with the test AUROC over the {len(val)} candidates is {rank:.2f}; it would have chosen: {chosen}."
    )
