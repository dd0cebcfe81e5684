"""The records of a published result: one per seed in NAME/seeds, those of runs with other settings in NAME/sweep."""

from pathlib import Path
from statistics import mean
from typing import Any

from edge.errors import UserError
from stages.report import ablation

FLOAT, INT8, FORMER_INT8 = "float", "int8", "QAT"  # steps that runs are compared by; what older records call int8
DEFAULT = "default"
PICTURES = "test_index_sha256"
NO_INT8 = f"has no AUROC of a variant with the step {INT8}"


def flat(settings: dict, prefix: str = "") -> dict:
    """{"a.b": value} of nested settings."""
    out: dict[str, Any] = {}
    for key, value in settings.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def label(settings: dict, base: dict) -> str:
    """The settings that differ from `base`, as `student.width = 0.5`; a key that is absent is at its default."""
    unsaid = flat(ablation.defaults())
    mine, others = unsaid | flat(settings), unsaid | flat(base)
    changed = [
        key for key in sorted(mine.keys() | others.keys()) if key != PICTURES and mine.get(key) != others.get(key)
    ]
    return ", ".join(f"{key} = {as_text(mine.get(key))}" for key in changed) or DEFAULT


def as_text(value: Any) -> str:
    """A value as a label has it: a list of names without quotes."""
    return f"[{', '.join(map(as_text, value))}]" if isinstance(value, list) else str(value)


def base_settings(folder: Path) -> dict:
    """The settings of the published result in `folder`; UserError when it has none."""
    for path in sorted(folder.glob("seeds/*.json")):
        return ablation.read_record(path)["settings"]
    raise UserError(f"{folder}/seeds: no published run to set others beside; publish the default first")


def unquantized(record: dict) -> dict:
    """The figures of the student in float; empty where the record has none."""
    return record["steps"].get(FLOAT, {})


def int8(record: dict) -> dict:
    """The figures of the student in int8, not pruned; empty where the record has none."""
    steps = record["steps"]
    return steps.get(INT8) or steps.get(FORMER_INT8) or {}


def has_int8(record: dict) -> bool:
    """Whether the record has the accuracy that runs are compared by."""
    return int8(record).get("image_auroc") is not None


def by_change(folder: Path) -> dict[str, list[dict]]:
    """The records of a published result by what was changed, the default first, one per seed."""
    settings = base_settings(folder)
    found: dict[str, list[dict]] = {}
    for path in [*sorted(folder.glob("seeds/*.json")), *sorted(folder.glob("sweep/*.json"))]:
        record = ablation.read_record(path)
        if record["settings"][PICTURES] != settings[PICTURES]:
            raise UserError(f"{path}: tested on other pictures than {folder}/seeds; remove it or run it again")
        if not has_int8(record):
            raise UserError(f"{path}: {NO_INT8}; publish a run that has one")
        runs = found.setdefault(label(record["settings"], settings), [])
        if record["seed"] not in [run["seed"] for run in runs]:
            runs.append(record)
    return found


def cost(changes: dict[str, list[dict]], name: str, key: str) -> float | None:
    """What the int8 file of a change costs, mean over the seeds; a latency over those that ran on the device and CPU of
    the first change. None where no such run measured it."""
    runs, first = changes[name], next(iter(changes.values()))[0]
    if key == "p50_ms":
        runs = [run for run in runs if all(run.get(part) == first.get(part) for part in ("device", "machine"))]
    values = [int8(run)[key] for run in runs]
    return None if None in values or not values else mean(values)
