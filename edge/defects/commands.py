"""`python -m edge learn-type CATALOGUE PICTURE TYPE`: one more labelled example, without any training."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from edge import disk
from edge.arrays import Floats, Image
from edge.defects import catalogue, files, region
from edge.errors import ModelError, UserError, shown
from edge.event import UTC
from edge.inference.detector import Detector, Prediction
from edge.inference.modelfile import open_model
from edge.preprocess import MAX_PIXELS, read_image, to_sample

THUMBNAIL = 96  # pixels of its longer side
AROUND = 0.5  # of the box' sides is shown on each side of it


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("learn-type", help="add a labelled defect to a catalogue of types")
    parser.add_argument("catalogue", help="the folder of the catalogue, which holds its model")
    parser.add_argument("image", help="a picture of the defect")
    parser.add_argument("type", help="what kind of defect it is")
    parser.add_argument("--box", metavar="X,Y,W,H", help="where it is, in pixels (default: where the model finds it)")
    parser.add_argument("--product", help="to find the example by")
    parser.add_argument("--line", help="to find the example by")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of the model (default: 1)")
    parser.add_argument(
        "--max-pixels", type=int, default=MAX_PIXELS, metavar="N", help="refuse a larger picture (default: %(default)s)"
    )
    parser.set_defaults(run=learn)


def learn(arguments: argparse.Namespace) -> int:
    """Adds the example, all of it or nothing; another process that adds at the same time is told so."""
    folder = Path(arguments.catalogue)
    catalogue.check_type(arguments.type, str(folder))
    for key in ("product", "line"):
        text = getattr(arguments, key)
        if text is not None and not catalogue.is_name(text):
            raise UserError(f"--{key} {text!r:.80}: must be 1 to {catalogue.LONGEST} printable characters")
    if not (folder / files.HEAD).exists() and not (folder / files.PENDING).exists():
        raise UserError(f"{folder}: no catalogue, which the stage defects makes: it holds {files.HEAD}")
    with files.locked(folder):
        files.settle(folder)
        known, detector = opened(folder, arguments.threads)
        prediction, image = looked(detector, Path(arguments.image), arguments.max_pixels)
        weights = None if arguments.box is None else inside(arguments.box, image.shape[0], image.shape[1])
        vector, box = known.vector(prediction, weights)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        point = catalogue.Point(
            arguments.type, arguments.image, box, prediction.score, arguments.product, arguments.line, now
        )
        add(known, vector, point, image)
    count = sum(one.type == point.type for one in known.points) + 1
    print(shown(f"{folder}: {len(known.points) + 1} examples, {count} of type {point.type}"))
    return 0


def opened(folder: Path, threads: int = 1) -> tuple[catalogue.Catalogue, Detector]:
    """A catalogue and the model in it; UserError where one is missing or damaged, or they don't fit."""
    if not (folder / files.MODEL).is_dir():
        raise ModelError(f"{folder / files.MODEL}: not found; a catalogue holds the model that it was made with")
    detector = Detector(open_model(folder / files.MODEL), threads)
    return catalogue.open_catalogue(folder, detector.info), detector


def looked(detector: Detector, path: Path, max_pixels: int = MAX_PIXELS) -> tuple[Prediction, Image]:
    """What a model says of a picture, and the picture."""
    spec = detector.info.input
    image = read_image(path, spec.depth, max_pixels)
    return detector.predict(to_sample([image] * spec.frames, spec.color)), image


def add(known: catalogue.Catalogue, vector: Floats, point: catalogue.Point, image: Image) -> None:
    """Writes the catalogue with one more example, and its thumbnail; by whoever holds the lock."""
    name = thumbnail(known.folder, image, point.box)
    vectors = np.concatenate([known.vectors, vector[None]])
    points = (*known.points, replace(point, thumbnail=name))

    def fill(fresh: Path) -> None:
        pictures = known.folder / files.THUMBNAILS
        disk.sync(pictures / name)  # before a point names it
        disk.sync(pictures)
        catalogue.write_catalogue(fresh, known.rules, vectors, points)

    files.replace(known.folder, fill)


def inside(text: str, height: int, width: int) -> Floats:
    """The weights [height, width] of a picture whose box X,Y,W,H somebody marked; UserError for what is no such box."""
    found = re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", text)
    x, y, w, h = map(int, found.groups()) if found else (0, 0, 0, 0)
    if not w or not h or x + w > width or y + h > height:
        raise UserError(f"--box {text:.80}: must be X,Y,W,H in the picture of {width} x {height} pixels")
    mask = np.zeros((height, width), np.bool_)
    mask[y : y + h, x : x + w] = True
    return region.marked(mask)


def thumbnail(folder: Path, image: Image, box: region.Box) -> str:
    """Writes what is around the box, as a small JPEG; returns its name, which follows from its content, so that the
    point that holds the name may be moved or leave."""
    x, y, w, h = box
    more_x, more_y = max(4, round(AROUND * w)), max(4, round(AROUND * h))
    crop = image[max(0, y - more_y) : y + h + more_y, max(0, x - more_x) : x + w + more_x]
    scale = THUMBNAIL / max(crop.shape[:2])
    size = max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale))
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes()
    path = folder / files.THUMBNAILS / f"{hashlib.sha256(jpeg).hexdigest()[:16]}.jpg"
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        part.write_bytes(jpeg)
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror or error}") from None
    return path.name
