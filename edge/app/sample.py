"""`python -m edge sample-video OUT.mp4`: a moving line of parts from the pipeline's dataset, and a truth file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.app import outputs, tables, truth
from edge.app.writer import Writer, check_name
from edge.arrays import Image
from edge.errors import UserError, shown
from edge.preprocess import read_image, read_mask, resize

COLUMNS = ("path", "label", "defect", "mask")  # of index.csv
FPS = 25
REST, MOVE = 20, 3  # frames that a part stays under the camera, and between two parts
CREEP = 0.015  # the line never stands still: so far a resting part drifts, as a share of its width
VISIBLE = 0.25  # a defect counts from this share of its pixels


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("sample-video", help="make a video of parts whose truth is known")
    parser.add_argument("output", help="the video; the truth file lies beside it, ending in .csv")
    parser.add_argument("--data", default="data/test", metavar="DIR", help="folder with index.csv (default: data/test)")
    parser.add_argument("--parts", type=int, default=24, metavar="N", help="parts on the line (default: 24)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of their order and of the camera's noise")
    parser.add_argument(
        "--depth", type=int, metavar="BITS", help="of 16-bit pictures, the bits that hold the values: input.depth"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    rows = write(arguments.output, arguments.data, arguments.parts, arguments.seed, arguments.depth)
    defects = sum(row["label"] for row in rows)
    print(f"{shown(arguments.output)}: {len(rows)} frames at {FPS} per second, {defects} with a defect")
    return 0


def write(
    output: str | Path, data: str | Path, parts: int, seed: int, depth: int | None = None
) -> list[dict[str, Any]]:
    """Writes the video and its truth file, and returns the rows of the latter; `depth` is that of `read_image`."""
    rng = np.random.default_rng(seed)
    data, video = Path(data), Path(output)
    check_name(video)
    table = video.with_suffix(".csv")
    outputs.check([video, table], [data / "index.csv"])
    truth.check_target(table)
    line = _line(data, parts, rng, depth)
    rows = []
    with Writer(output, FPS, lossless=True) as writer:
        for number, (position, moving) in enumerate(_positions(len(line))):
            image, mask, defect = _look(line, position)
            light = rng.uniform(0.98, 1.02)
            noise = rng.normal(0, 1.5, image.shape[:2])[..., None]
            writer.put(np.clip(image * light + noise + 0.5, 0, 255).astype(np.uint8))
            x, y, w, h = cv2.boundingRect(mask) if defect else (0, 0, 0, 0)
            box = {"x": x, "y": y, "width": w, "height": h}
            rows.append({"frame": number, "label": int(bool(defect)), "defect": defect, "moving": int(moving), **box})
    truth.write(table, rows)
    return rows


def _line(data: Path, parts: int, rng: np.random.Generator, depth: int | None = None) -> list[tuple[Image, Image, str]]:
    """Picture, mask (uint8) and defect type ("" for good) of each part; runs of good parts, then one to three bad."""
    good, bad = _items(data / "index.csv")
    kinds: list[int] = []
    while len(kinds) < parts:
        kinds += [0] * int(rng.integers(1, 4)) + [1] * int(rng.integers(1, 4))
    order = {0: list(rng.permutation(len(good))), 1: list(rng.permutation(len(bad)))}
    chosen, line = [], []
    for kind in kinds[:parts]:
        order[kind].append(order[kind].pop(0))  # again from the start when all were shown
        chosen.append((good, bad)[kind][order[kind][-1]])
    shape = read_image(data / chosen[0]["path"], depth).shape[:2]
    for item in chosen:
        is_defect = tables.label(item["label"]) == 1
        image, mask = resize(read_image(data / item["path"], depth), *shape), np.zeros(shape, np.uint8)
        if item["mask"]:
            marked: np.ndarray = read_mask(data / item["mask"]).astype(np.float32)
            mask = (resize(marked, *shape) > 0).astype(np.uint8)  # the one rule: not zero, however small it becomes
        if is_defect and not mask.any():
            mask[:] = 1  # no mask, or one that marks nothing: the whole part
        line.append((image, mask, item["defect"] if is_defect else ""))
    return line


def _items(path: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The good pictures of an index, and those with a defect."""
    wanted = "needs the columns path, label, defect and mask, as fetch writes"
    items = list(tables.rows(path, COLUMNS, wanted, "; --data takes a folder that fetch wrote"))
    good, bad = ([item for item in items if tables.label(item["label"]) == kind] for kind in (0, 1))
    if len(good) + len(bad) < len(items) or not all(item["path"] for item in items):
        raise UserError(f"{path}: {wanted}; a label is 0 or 1")
    if not good or not bad:
        raise UserError(f"{path}: needs good pictures and pictures with a defect")
    if not all(item["defect"] for item in bad):
        raise UserError(f"{path}: a picture with a defect has no type in the column defect")
    return good, bad


def _positions(parts: int) -> Iterator[tuple[float, bool]]:
    """(place of the camera in parts, whether the line moves on) of each frame."""
    for part in range(parts):
        for step in range(REST):
            yield part + CREEP * (2 * step / (REST - 1) - 1), False
        if part < parts - 1:
            for step in range(1, MOVE + 1):
                yield part + CREEP + (1 - 2 * CREEP) * step / (MOVE + 1), True


def _look(line: list[tuple[Image, Image, str]], position: float) -> tuple[np.ndarray, Image, str]:
    """What the camera sees: the picture, the mask in it and the type of the defect that is visible enough, or ""."""
    height, width = line[0][0].shape[:2]
    left = round(position * width)
    image, mask, seen = np.empty((height, width, 3)), np.zeros((height, width), np.uint8), ""
    first = left // width
    for part in (first, first + 1):
        picture, truth, defect = line[min(max(part, 0), len(line) - 1)]
        start, end = max(left, part * width), min(left + width, (part + 1) * width)
        here, there = slice(start - left, end - left), slice(start - part * width, end - part * width)
        image[:, here] = picture[:, there]
        if defect and truth[:, there].sum() >= VISIBLE * truth.sum():
            mask[:, here], seen = truth[:, there], defect
    return image, mask, seen
