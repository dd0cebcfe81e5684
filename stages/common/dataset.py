"""The index that `fetch` writes and every later stage reads: one row per image."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from edge.errors import UserError
from edge.preprocess import read_image, resize


@dataclass(frozen=True)
class Item:
    """One image; `path` and `mask` are relative to the folder of the index, `mask` is empty where there is none."""

    path: str
    split: str  # train | val | test
    label: int  # 0 good, 1 defect
    defect: str  # "good" or the defect type
    mask: str
    sha256: str  # of the image file
    group: str  # images of one group never straddle a split


def sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_index(folder: Path, items: list[Item]) -> None:
    """Writes `folder/index.csv`, rows in the given order."""
    with open(folder / "index.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, [f.name for f in fields(Item)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(item) for item in items)


def read_index(folder: str | Path, split: str | None = None) -> list[Item]:
    """The rows of `folder/index.csv` (of one split); UserError when a file is missing or differs from its sha256."""
    folder = Path(folder)
    try:
        with open(folder / "index.csv", newline="") as stream:
            rows = [Item(**{**row, "label": int(row["label"])}) for row in csv.DictReader(stream)]
    except FileNotFoundError:
        raise UserError(f"{folder}/index.csv: not found; run dvc repro fetch") from None
    rows = [row for row in rows if split in (None, row.split)]
    if not rows:
        raise UserError(f"{folder}/index.csv: no image in split {split}; check the data section of params.yaml")
    for row in rows:
        path = folder / row.path
        if not path.exists():
            raise UserError(f"{path}: listed in the index but missing; run dvc repro -f fetch")
        if sha256(path) != row.sha256:
            raise UserError(f"{path}: content differs from the index (sha256); run dvc repro -f fetch")
    return rows


def evenly(items: Sequence, count: int) -> list:
    """`count` of the items, or all, evenly drawn: neighbours in an index are pictures of one series."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def load_images(folder: str | Path, items: list[Item], size: int) -> np.ndarray:
    """The images as the models get them: uint8 [N, size, size, 3], RGB."""
    out = np.empty((len(items), size, size, 3), np.uint8)
    for i, item in enumerate(items):
        out[i] = resize(read_image(Path(folder) / item.path), size, size)
    return out
