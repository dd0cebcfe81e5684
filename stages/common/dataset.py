"""The index that `fetch` writes and every later stage reads: one row per image."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from edge.errors import UserError
from edge.preprocess import read_image, resize, sample_of


@dataclass(frozen=True)
class Item:
    """One picture or one frame of a clip; `path` and `mask` (empty where there is none) are relative to the index."""

    path: str
    split: str  # train | val | test
    label: int  # 0 good, 1 defect
    defect: str  # "good" or the defect type
    mask: str
    sha256: str  # of the image file
    group: str  # images of one group never straddle a split
    clip: str = ""  # the clip that it is a frame of, empty for a picture
    frame: int = 0  # its place in the clip


def sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_index(folder: Path, items: list[Item]) -> None:
    """Writes `folder/index.csv`, rows in the given order; the columns of clips only where there are any."""
    names = [f.name for f in fields(Item)]
    names = names if any(item.clip for item in items) else names[: names.index("clip")]
    with open(folder / "index.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(asdict(item) for item in items)


def read_index(folder: str | Path, split: str | None = None) -> list[Item]:
    """The rows of `folder/index.csv` (of one split); UserError when a file is missing or differs from its sha256."""
    folder = Path(folder)
    try:
        with open(folder / "index.csv", newline="") as stream:
            rows = [
                Item(**{**row, "label": int(row["label"]), "frame": int(row.get("frame", 0))})
                for row in csv.DictReader(stream)
            ]
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


def load_samples(folder: str | Path, items: list[Item], spec) -> np.ndarray:
    """The samples as the models get them: uint8 [N, size, size, C].

    spec: the section input of params: rgb pictures have three channels; grey samples as many as `frames`, which are
    the frames of one clip up to the item's own, `step` apart. What lies before the first frame repeats it.
    """
    folder = Path(folder)
    clips: dict[str, list[Item]] = {}
    if any(item.clip for item in items):
        for item in sorted(read_index(folder), key=lambda item: item.frame):
            clips.setdefault(item.clip, []).append(item)
    out = None
    for i, item in enumerate(items):
        paths = [folder / item.path]
        if spec.frames > 1:
            clip = clips.get(item.clip) if item.clip else None
            if clip is None:
                raise UserError(f"{folder / item.path}: a picture, but input.frames = {spec.frames}; set it to 1")
            now = clip.index(item)
            paths = [folder / clip[max(0, now - spec.step * k)].path for k in reversed(range(spec.frames))]
        sample = sample_of([resize(read_image(path), spec.size, spec.size) for path in paths], spec.color)
        if out is None:
            out = np.empty((len(items), *sample.shape), np.uint8)
        out[i] = sample
    return out
