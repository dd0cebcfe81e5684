"""Labelled defects as the exported file sees them, and their vectors under every way of making one."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge.defects import region
from edge.defects.catalogue import no_embedding
from edge.errors import UserError
from edge.inference.detector import Detector, Prediction
from edge.preprocess import read_mask
from stages.common.dataset import Item, Samples
from stages.common.progress import track

TRAIN, TEST = Path("data/train"), Path("data/test")
MARKED = "marked"  # the one pooling of a mask
PLACES = ("found", MARKED)  # where the defect is: where the model finds it, or in the mask that somebody drew


@dataclass(frozen=True)
class Seen:
    """A labelled defect. weights: how much each place counts, by pooling of the map; "marked" too where it has a mask,
    shrunk to the places of the embedding. hit: whether the mask reaches into the 3 x 3 places around the map's peak."""

    item: Item
    folder: Path
    score: float
    is_defect: bool
    size: tuple[int, int]
    embedding: np.ndarray  # float32 [h, w, D]
    weights: dict[str, np.ndarray]
    hit: bool

    @property
    def part(self) -> str:
        return self.item.part or self.item.group


def look(detector: Detector, folder: Path, items: list[Item], poolings: list[str]) -> list[Seen]:
    """What an exported file says of labelled defects; UserError for one without embedding, and for clips."""
    if detector.info.output("embedding") is None:
        raise no_embedding(detector.info)
    if detector.info.input.frames > 1 or any(item.clip for item in items):
        raise UserError("defects: types are told of pictures, not of clips; set defects.variant: null")
    read, found = Samples(folder, detector.info.input), []
    for item in track(items, f"defects, {detector.info.name}"):
        sample, size = read.with_size(item)
        prediction = detector.judge(sample, size)
        found.append(_seen(prediction, item, folder, poolings))
    return found


def _seen(prediction: Prediction, item: Item, folder: Path, poolings: list[str]) -> Seen:
    weights = {pooling: region.found(prediction.raw_map, pooling) for pooling in poolings}
    embedding = prediction.embedding
    assert embedding is not None  # look has checked it
    mask, hit = read_mask(folder / item.mask) if item.mask else None, False
    if mask is not None and mask.any():
        peak = region.found(prediction.raw_map, "peak") > 0
        hit = bool((shrunk(mask, peak.shape) > 0)[peak].any())
        weights[MARKED] = shrunk(mask, embedding.shape[:2])
    size = prediction.size
    return Seen(item, folder, prediction.score, prediction.is_defect, size, embedding.copy(), weights, hit)


def shrunk(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The share of each of [h, w] places that a bool mask [H, W] covers; of a smaller one interpolated."""
    weights = region.marked(mask)
    if mask.shape[0] < shape[0] or mask.shape[1] < shape[1]:
        return cv2.resize(weights, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.resize(weights, shape[::-1], interpolation=cv2.INTER_AREA)


def vectors(seen: list[Seen], pooling: str, dimensions: int) -> np.ndarray:
    """Unit vectors float32 [N, D] of the defects, pooled in that way; zeros for those without a mask."""
    none = np.zeros(dimensions, np.float32)
    return np.stack(
        [
            region.pooled(one.embedding, one.weights[pooling], dimensions) if pooling in one.weights else none
            for one in seen
        ]
    )


def peak_hits(seen: list[Seen]) -> float | None:
    """In which share of the pictures with a mask the map has its peak there; None without masks."""
    hits = [one.hit for one in seen if MARKED in one.weights]
    return float(np.mean(hits)) if hits else None
