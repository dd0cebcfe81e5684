"""Published runs that differ from the published result in a few settings: what each change bought, and the front.

`python -m stages.report.publish NAME --beside` leaves their records in NAME/sweep; the README shows their table.
"""

from pathlib import Path
from statistics import mean

from scipy.stats import spearmanr

from edge.errors import UserError
from stages.report import summary
from stages.report.ablation import spread

FLOAT, INT8 = "float", "QAT"  # the steps of a record that are compared
HEAD = ("Changed", "Seeds", "Teacher AUROC", "Float AUROC", "int8 AUROC", "int8 AUPRO", "int8 val AUROC")
HEAD += ("MACs", "Size", "p50 ms")
COLUMNS = ((FLOAT, "image_auroc"), (INT8, "image_auroc"), (INT8, "aupro"), (INT8, "val_auroc"))
DEFAULT = "nothing"
PICTURES = "test_index_sha256"


def flat(settings: dict, prefix: str = "") -> dict:
    """{"a.b": value} of nested settings."""
    out = {}
    for key, value in settings.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def label(settings: dict, base: dict) -> str:
    """The settings that differ from `base`, as `student.width = 0.5`."""
    mine, others = flat(settings), flat(base)
    changed = [
        key for key in sorted(mine.keys() | others.keys()) if key != PICTURES and mine.get(key) != others.get(key)
    ]
    return ", ".join(f"{key} = {mine.get(key)}" for key in changed) or DEFAULT


def base(folder: Path) -> dict:
    """The settings of the published result in `folder`; UserError when it has none."""
    for path in sorted(folder.glob("seeds/*.json")):
        return summary.read_json(path)["settings"]
    raise UserError(f"{folder}/seeds: no published run to set others beside; publish the default first")


def groups(folder: Path) -> dict[str, list[dict]]:
    """The records of a published result by what was changed, the unchanged first, one per seed."""
    settings, found = base(folder), {}
    for path in [*sorted(folder.glob("seeds/*.json")), *sorted(folder.glob("sweep/*.json"))]:
        record = summary.read_json(path)
        if record["settings"][PICTURES] != settings[PICTURES]:
            raise UserError(f"{path}: tested on other pictures than {folder}/seeds; remove it or run it again")
        if record["steps"].get(INT8, {}).get("image_auroc") is None:
            raise UserError(f"{path}: has no int8 variant of the model qat with an AUROC; publish a run that has one")
        runs = found.setdefault(label(record["settings"], settings), [])
        if record["seed"] not in [run["seed"] for run in runs]:
            runs.append(record)
    return found


def front(points: list[tuple[float, float]]) -> list[int]:
    """The indices of (cost, value) points that no other beats: none is as cheap and better, or cheaper and as good."""
    return [
        i
        for i, (cost, value) in enumerate(points)
        if not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)
    ]


def cost(found: dict[str, list[dict]], name: str, key: str) -> float | None:
    """What the int8 file of a change costs, mean over the seeds; None for a latency that was not measured, or on
    another device or CPU than that of the first change."""
    runs, first = found[name], next(iter(found.values()))[0]
    values = [run["steps"][INT8][key] for run in runs]
    others = any(run.get(part) != first.get(part) for run in runs for part in ("device", "machine"))
    if None in values or (key == "p50_ms" and others):
        return None
    return mean(values)


def lines(found: dict[str, list[dict]]) -> list[list[str]]:
    """A line of the table for each change."""
    out = []
    for name, runs in found.items():
        steps = [run["steps"] for run in runs]
        teacher = [(run.get("teacher") or {}).get("image_auroc") for run in runs]
        accuracy = [[one.get(step, {}).get(key) for one in steps] for step, key in COLUMNS]
        macs, size, time = (cost(found, name, key) for key in ("macs", "size_bytes", "p50_ms"))
        cells = [spread(values) for values in (teacher, *accuracy)]
        cells += [summary.count(macs), summary.size(size), summary.significant(time)]
        out.append([name, str(len(runs)), *cells])
    return out


def markdown(folder: Path) -> str:
    """The table of all changes, and which of them are on the front of accuracy against latency and size."""
    found = groups(folder)
    text = summary.markdown_table(HEAD, lines(found))
    notes = [
        "int8: by quantization-aware training, not pruned. Mean ± standard deviation over the seeds; measured on "
        "the exported files, latency of one thread in each run's own sitting."
    ]
    for key, title in (("p50_ms", "latency"), ("size_bytes", "size")):
        names = best(found, key)
        if len(found) > 1 and names:
            notes.append(f"Not beaten in int8 AUROC against {title}: {'; '.join(names)}.")
    if ranked := agreement(found):
        notes.append(ranked)
    return text + "\n\n" + "\n".join(f"- {note}" for note in notes)


def best(found: dict[str, list[dict]], key: str) -> list[str]:
    """The changes on the front of int8 AUROC against the cost `key`."""
    known = {}
    for name, runs in found.items():
        if (price := cost(found, name, key)) is not None:
            known[name] = price, mean(run["steps"][INT8]["image_auroc"] for run in runs)
    return [list(known)[i] for i in front(list(known.values()))]


def agreement(found: dict[str, list[dict]]) -> str | None:
    """How validation pictures would have ranked the candidates of the table: the rank correlation with test."""
    steps = [[run["steps"][INT8] for run in runs] for runs in found.values()]
    if len(steps) < 3 or any(one.get("val_auroc") is None for mine in steps for one in mine):
        return None
    val, test = ([mean(one[key] for one in mine) for mine in steps] for key in ("val_auroc", "image_auroc"))
    rank = spearmanr(val, test).statistic
    chosen = list(found)[max(range(len(val)), key=val.__getitem__)]
    return (
        f"val AUROC: good validation pictures against CutPaste defects, without a test picture. Its rank correlation "
        f"with the test AUROC over the {len(val)} candidates is {rank:.2f}; it would have chosen: {chosen}."
    )
