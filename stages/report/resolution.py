"""At which resolution pixel AUROC and AUPRO were computed, for every table that shows them."""

from collections.abc import Iterable

KEYS = ("pixel_auroc", "aupro")
NAMES = ("Pixel AUROC", "AUPRO")  # how the head of a column ends
OLD = "model"  # what a record means that doesn't say it
NOTES = {
    "full": "at full resolution: maps resized to each picture's own size, masks as drawn (MVTec AD protocol)",
    "model": "at the resolution of the model's input, where masks grow into every pixel that they touch",
}


def of(record: dict) -> str:
    """The resolution of the pixel figures in an evaluation, a result or a step of compression: full | model."""
    return record.get("pixel_resolution") or OLD


def all_of(records: Iterable[dict]) -> list[str]:
    """The resolutions of all records that have such a figure, in the order of NOTES."""
    found = {of(record) for record in records if any(record.get(key) is not None for key in KEYS)}
    return [name for name in NOTES if name in found]


def head(names: Iterable[str], records: Iterable[dict]) -> tuple[str, ...]:
    """The names of columns, those of pixel figures with the resolution where all records share it."""
    found = all_of(records)
    mark = f" ({found[0]})" if len(found) == 1 else ""
    return tuple(f"{name}{mark}" if name.endswith(NAMES) else name for name in names)


def mark(record: dict, records: Iterable[dict]) -> str:
    """What stands behind a pixel figure of `record` in a table of `records` that don't share one resolution."""
    return f" ({of(record)})" if len(all_of(records)) > 1 else ""


def note(records: Iterable[dict], figures: str = "AUPRO") -> list[str]:
    """What the resolutions in a table mean, as one sentence; none where it has no such figure."""
    meanings = [f"{NOTES[name]} ({name})" for name in all_of(records)]
    return [f"{figures} {'; '.join(meanings)}."] if meanings else []


def flat_key(key: str, record: dict) -> str:
    """The name of a figure in metrics.json, where it has to say its resolution itself (as OLD it is the bare key), so
    that `dvc metrics diff` compares nothing unlike."""
    return f"{key}_{of(record)}" if key in KEYS and of(record) != OLD else key
