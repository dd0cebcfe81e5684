"""`python -m edge sample-video OUT.mp4`: a moving line of parts from the pipeline's dataset, and a truth file."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.app import outputs, truth
from edge.app.writer import Writer
from edge.arrays import Image
from edge.errors import UserError
from edge.preprocess import read_image, read_mask, resize

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
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    rows = write(arguments.output, arguments.data, arguments.parts, arguments.seed)
    defects = sum(row["label"] for row in rows)
    print(f"{arguments.output}: {len(rows)} frames at {FPS} per second, {defects} with a defect")
    return 0


def write(output: str | Path, data: str | Path, parts: int, seed: int) -> list[dict[str, Any]]:
    """Writes the video and its truth file, and returns the rows of the latter."""
    rng = np.random.default_rng(seed)
    data, video = Path(data), Path(output)
    table = video.with_suffix(".csv")
    outputs.check([video, table], [data / "index.csv"])
    truth.check_target(table)
    line = _line(data, parts, rng)
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


def _line(data: Path, parts: int, rng: np.random.Generator) -> list[tuple[Image, Image, str]]:
    """Picture, mask (uint8) and defect type ("" for good) of each part; runs of good parts, then one to three bad."""
    try:
        with open(data / "index.csv", newline="", encoding="utf-8") as stream:
            items = list(csv.DictReader(stream))
            good, bad = ([i for i in items if int(i["label"]) == label] for label in (0, 1))
    except OSError as error:
        raise UserError(f"{data}/index.csv: {error.strerror}; --data takes a folder that fetch wrote") from None
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{data}/index.csv: needs the columns path, label, defect and mask, as fetch writes") from None
    if not good or not bad:
        raise UserError(f"{data}/index.csv: needs good pictures and pictures with a defect")
    kinds: list[int] = []
    while len(kinds) < parts:
        kinds += [0] * int(rng.integers(1, 4)) + [1] * int(rng.integers(1, 4))
    order = {0: list(rng.permutation(len(good))), 1: list(rng.permutation(len(bad)))}
    chosen, line = [], []
    for kind in kinds[:parts]:
        order[kind].append(order[kind].pop(0))  # again from the start when all were shown
        chosen.append((good, bad)[kind][order[kind][-1]])
    shape = read_image(data / chosen[0]["path"]).shape[:2]
    for item in chosen:
        image, mask = resize(read_image(data / item["path"]), *shape), np.zeros(shape, np.uint8)
        if item["mask"]:
            mask = resize(read_mask(data / item["mask"]).astype(np.uint8) * 255, *shape) // 128
        elif int(item["label"]):
            mask[:] = 1  # no mask: the whole part
        line.append((image, mask, item["defect"] if int(item["label"]) else ""))
    return line


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
