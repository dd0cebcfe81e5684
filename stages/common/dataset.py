"""The dataset: an index with one row per image, which `fetch` writes and every later stage reads, and its samples."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import UserError
from edge.preprocess import read_image, to_sample
from stages.common.textfile import open_regular, reason


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
    unverified: int = 0  # 1: downloaded, and compared with no known hash
    part: str = ""  # which part it shows, where pictures of one part are no group; empty: the group


def sha256(path: Path) -> str:
    """Of a regular file; UserError for what else may be there: a pipe would be read for ever."""
    with open_regular(path, "replace or remove it") as stream:
        try:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{path}: can't be read: {reason(error)}; replace or remove it") from None


def write_index(folder: Path, items: list[Item]) -> None:
    """Writes `folder/index.csv`, rows in the given order; columns that say nothing of any of them are left out."""
    names = [f.name for f in fields(Item) if any(getattr(item, f.name) != f.default for item in items)]
    with open(folder / "index.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(asdict(item) for item in items)


def read_index(folder: str | Path, split: str | None = None, labels: Sequence[int] | None = None) -> list[Item]:
    """The rows of `folder/index.csv`, or those of one split; UserError when a file is missing or differs from its
    sha256.

    labels: which rows are wanted (0 good, 1 defect). Without it, train and val mean their good pictures: labelled
    defects are there where `data.split` is supervised, and a kind that learns from good pictures never sees them.
    """
    folder = Path(folder)
    known = [item for item in _rows(folder) if split in (None, item.split)]
    learning = split in ("train", "val")
    rows = [item for item in known if item.label in (labels or ((0,) if learning else (0, 1)))]
    if learning and labels is None and len(rows) < len(known):
        print(f"{folder}: {len(known) - len(rows)} labelled defects of {split} are left out here", flush=True)
    if not rows:
        if labels and 0 not in labels:
            raise UserError(f"{folder}/index.csv: no labelled defect in split {split}; set data.split: supervised")
        raise UserError(f"{folder}/index.csv: no image in split {split}; check the data section of params.yaml")
    for row in rows:
        path = folder / row.path
        if not path.exists():
            raise UserError(f"{path}: listed in the index but missing; run dvc repro -f fetch")
        if sha256(path) != row.sha256:
            raise UserError(f"{path}: content differs from the index (sha256); run dvc repro -f fetch")
    return rows


def _rows(folder: Path) -> list[Item]:
    """All rows of `folder/index.csv`, whatever became of the files that they name."""
    try:
        with open(folder / "index.csv", newline="") as stream:
            cells: list[dict[str, Any]] = list(csv.DictReader(stream))
        numbers = ("label", "frame", "unverified")
        return [Item(**(row | {name: int(row.get(name, 0)) for name in numbers})) for row in cells]
    except FileNotFoundError:
        raise UserError(f"{folder}/index.csv: not found; run dvc repro fetch") from None
    except (KeyError, TypeError, ValueError):  # a column or a number that isn't one
        raise UserError(f"{folder}/index.csv: damaged; run dvc repro -f fetch") from None


def evenly(items: Sequence, count: int) -> list:
    """`count` of the items, or all, evenly spaced: neighbours in an index are pictures of one series, much alike."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


class Samples:
    """Reads the samples of an index, whose files `read_index` has verified, in the form that `spec` asks for: the input
    of params or of a model.

    Called with an item, it returns uint8 [H, W, C] of the size of the canvas (edge/geometry.py), which is that of the
    input where there is one tile: three channels of an rgb picture, or a grey channel for each of `frames`. These are
    frames of one clip, `step` apart, the item's own being the last; before the clip begins, its first frame is
    repeated. Items that follow each other in a clip share the frames that they have in common, each of which is decoded
    and resized once.
    """

    def __init__(self, folder: str | Path, spec):
        self.folder, self.spec = Path(folder), spec
        self._places: dict[str, tuple[list[str], int]] = {}  # path: the frames of its clip in order, and which it is
        self._clip: list[str] = []  # that of the item before
        self._kept: dict[int, tuple[np.ndarray, tuple[int, int]]] = {}  # its latest frames by their place, as `_read`
        if spec.frames > 1:
            clips: dict[str, list[str]] = {}
            for item in sorted(_rows(self.folder), key=lambda item: item.frame):
                clip = clips.setdefault(item.clip, [])
                self._places[item.path] = clip, len(clip)
                clip.append(item.path)

    def __call__(self, item: Item) -> np.ndarray:
        return self.with_size(item)[0]

    def with_size(self, item: Item) -> tuple[np.ndarray, tuple[int, int]]:
        """The sample, and height and width of the item's own picture."""
        frames, step = self.spec.frames, self.spec.step
        if frames == 1:
            return self._read(item.path)
        if not item.clip:
            raise UserError(f"{self.folder / item.path}: a picture, but input.frames = {frames}; set 1")
        clip, now = self._places[item.path]
        first = now - (frames - 1) * step
        kept = {place: one for place, one in self._kept.items() if clip is self._clip and first <= place <= now}
        shown = [max(0, now - step * back) for back in reversed(range(frames))]
        for place in shown:
            if place not in kept:
                kept[place] = self._read(clip[place])
        self._clip, self._kept = clip, kept
        return np.concatenate([kept[place][0] for place in shown], axis=-1), kept[now][1]

    def _read(self, path: str) -> tuple[np.ndarray, tuple[int, int]]:
        """One picture as a sample of one frame, with its own height and width."""
        picture = read_image(self.folder / path, self.spec.depth)
        return self.spec.geometry.sample(to_sample([picture], self.spec.color)), picture.shape[:2]


def thinned(items: Sequence[Item], spec) -> list[Item]:
    """The pictures among the items, and every `spec.every`-th frame of the clips: neighbours are nearly alike."""
    return [item for item in items if not item.clip or item.frame % getattr(spec, "every", 1) == 0]


def load_samples(folder: str | Path, items: Sequence[Item], spec) -> np.ndarray:
    """What the models get of the items, of clips the `thinned` ones: uint8 [N, height, width, C], one for each tile;
    spec: the section input.

    Every second sample is of every second item, for what is chosen on one half is judged on the other. Tiles are in
    another order in each pair of items, so that evenly drawn samples are of all places.
    """
    read, items = Samples(folder, spec), thinned(items, spec)
    crops = [spec.geometry.crops(read(item)) for item in items]
    order = []
    for first in range(0, len(crops), 2):
        pair, tiles = crops[first : first + 2], len(crops[first])
        order += [own[(tile + first // 2) % tiles] for tile in range(tiles) for own in pair]
    return np.stack(order)


def load_pictures(folder: str | Path, items: Sequence[Item], spec) -> list[np.ndarray]:
    """The samples of the items before they are padded and cut into tiles, uint8 [H, W, C] of what each fills of the
    canvas: what a picture is as `edge` takes it."""
    read, found = Samples(folder, spec), []
    for item in items:
        sample, size = read.with_size(item)
        height, width = spec.geometry.area(size)
        found.append(sample[:height, :width])
    return found
