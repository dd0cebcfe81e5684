"""The catalogue that a device reads, of labelled defects and the way that was chosen."""

import shutil
from pathlib import Path

from edge.defects import region
from edge.defects.catalogue import Point, Rules, write_catalogue
from edge.defects.commands import thumbnail
from edge.defects.files import MODEL
from edge.inference.detector import Detector
from edge.preprocess import read_image
from stages.defects import samples
from stages.defects.neighbours import Way
from stages.defects.samples import Seen


def write(folder: Path, detector: Detector, seen: list[Seen], way: Way, limit: float, depth: int | None) -> None:
    """Writes vectors, points, thumbnails, rules and the model itself."""
    folder.mkdir()
    shutil.copytree(detector.info.folder, folder / MODEL)
    points = []
    for one in seen:
        box = region.box(one.weights[way.pooling], one.size)
        name = thumbnail(folder, read_image(one.folder / one.item.path, depth), box)
        points.append(Point(one.item.defect, one.item.path, box, one.score, thumbnail=name))
    rules = Rules(detector.info.sha256, way.dimensions, way.pooling, way.k, limit)
    write_catalogue(folder, rules, samples.vectors(seen, way.pooling, way.dimensions), points)
