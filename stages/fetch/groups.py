"""Which pictures show the same part, so that they stay on one side of the split: as `data.group` says, or found."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from edge.errors import UserError
from edge.preprocess import read_image, resize, to_grey
from stages.common.progress import track
from stages.common.textfile import read_text, short
from stages.fetch.picture import Picture
from stages.fetch.split import components

MOST = 1 << 28  # bytes of a CSV: a choice
SIDE = 64  # pixels to a side of what is compared
BLUR = 4.0  # Gaussian of the local mean that is subtracted, in those pixels
FINE, NOISE = 2.0, 4.0  # where contrast counts, too: the Gaussian of both, and grey levels below which it counts less
# Normalised cross-correlation of what two pictures have beyond the mean picture. Of the magnetic tiles no two of
# different tiles exceed .87; of those of one tile, which differ in exposure and place, 6 % exceed .9.
SAME = 0.9
MANY = 0.5  # share of the pictures in one group beyond which their outlines may be all that is alike: a choice


def assign(pictures: list[Picture], group: str | None, find: bool, depth: int | None) -> list[Picture]:
    """The pictures with their groups, and a line that says how many are grouped: as `group` (data.group) says; else, if
    `find`, near-duplicates that share none yet are joined; else those of the source."""
    if group:
        of = _from_csv(pictures, group) if ".csv" in group else _from_names(pictures, group)
        alone = of.count(None)
        pictures = [replace(p, group=p.group if g is None else f"group/{g}") for p, g in zip(pictures, of, strict=True)]
        if alone:
            print(f"warning: data.group says nothing of {alone} pictures; each is a group of its own", flush=True)
    elif find:
        pictures = _near_duplicates(pictures, depth)
    sizes = Counter(picture.group for picture in pictures)
    shared = sum(size for size in sizes.values() if size > 1)
    if shared:
        print(f"groups: {shared} pictures share {sum(s > 1 for s in sizes.values())} groups", flush=True)
    else:
        looked = ", no near-duplicates were found" if find and not group else ""
        print(f"groups: none{looked}; data.group says which pictures show the same part", flush=True)
    return pictures


def _from_names(pictures: list[Picture], pattern: str) -> list[str | None]:
    """What the pattern finds in each name (defect type/file): its parenthesised parts, else all of it."""
    try:
        finder = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"data.group = {short(repr(pattern))}: not a regular expression: {error}; correct it") from None
    found = [finder.search(picture.name) for picture in pictures]
    if not any(found):
        raise UserError(f"data.group = {short(repr(pattern))}: matches no name such as {pictures[0].name}; correct it")
    return [match and "/".join(part or "" for part in match.groups() or (match[0],)) for match in found]


def _from_csv(pictures: list[Picture], where: str) -> list[str | None]:
    """What the column of a CSV (`file.csv:column`) holds for each picture; its column `path` is the end of a path."""
    key = f"data.group = {short(repr(where))}"
    name, _, column = where.rpartition(":") if not where.endswith(".csv") else (where, "", "group")
    try:
        text = read_text(Path(name).expanduser(), "give file.csv:column", MOST).removeprefix("\ufeff")
        rows = {Path(row["path"]).parts: row[column] for row in csv.DictReader(io.StringIO(text, newline=""))}
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    except (RuntimeError, csv.Error) as error:
        raise UserError(f"{key}: can't be read: {error}; give file.csv:column") from None
    except (KeyError, TypeError):
        raise UserError(f"{key}: {name} needs the columns path and {column}; correct it") from None
    found = []
    for picture in pictures:
        parts = picture.file.parts
        found.append(next((rows[parts[i:]] or None for i in range(len(parts)) if parts[i:] in rows), None))
    if not any(found):
        raise UserError(f"{key}: no path of it is a picture's, such as {pictures[0].file}; correct it")
    return found


def _near_duplicates(pictures: list[Picture], depth: int | None) -> list[Picture]:
    """Joins the groups of pictures that are nearly equal: shots of a part that did not move.

    Parts of one outline in any pose each look like the next pose without being one part. So where that makes one group
    of most pictures, but not when an outline does not outweigh a surface, what is joined then counts.
    """
    greys = [resize(to_grey(read_image(p.file, depth)), SIDE, SIDE) for p in track(pictures, "compare images")]
    images = np.stack(greys).astype(np.float32)
    found = _joined(pictures, images, _detail)
    most = MANY * len(pictures)
    if (many := _largest(found)) > most and _largest(surfaces := _joined(pictures, images, _surface)) <= most:
        print(f"groups: {many} pictures would be one for their outlines; compared by surface instead", flush=True)
        found = surfaces
    return [replace(picture, group=group) for picture, group in zip(pictures, found, strict=True)]


def _largest(groups: list[str]) -> int:
    """How many pictures the largest group has."""
    return Counter(groups).most_common(1)[0][1]


def _joined(pictures: list[Picture], images: np.ndarray, detail: Callable) -> list[str]:
    """The groups of the pictures, joined where the detail of two of the grey `images` [N, SIDE, SIDE] is nearly equal
    but for what all have in common, as where every part lies in one place."""
    seen = np.stack([detail(image) for image in images])
    seen = (seen - seen.mean(axis=0)).reshape(len(seen), -1)
    seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-3)
    pairs = []
    for start in range(0, len(seen), 512):
        for a, b in np.argwhere(seen[start : start + 512] @ seen.T > SAME):
            if start + a < b:
                pairs.append((pictures[start + a].group, pictures[b].group))
    group = components((picture.group for picture in pictures), pairs)
    return [group[picture.group] for picture in pictures]


def _detail(image: np.ndarray, blur: float = BLUR) -> np.ndarray:
    """A grey picture without its local mean, so that light does not count."""
    return image - cv2.GaussianBlur(image, (0, 0), blur)


def _surface(image: np.ndarray) -> np.ndarray:
    """A grey picture without its local mean and contrast, so that an outline does not outweigh a surface. Of the pill
    turned anyhow no two exceed .87, while nine in ten had exceeded .94 with another; of the shots of one tile that
    exceed SAME by `_detail` three in ten still do."""
    detail = _detail(image, FINE)
    return detail / (np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), FINE)) + NOISE)
