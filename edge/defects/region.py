"""Where in a picture the anomaly is, and the one vector that says what it looks like there."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from edge.arrays import Floats, Mask

Box = tuple[int, int, int, int]  # x, y, width, height in pixels of the picture

LEVEL = 0.5  # a region's border, between the median of the map (the good surface) and its peak; as of an overlay
SHARPNESS = 3  # of the soft region: the power of the excess over the median


def _excess(map: Floats) -> Floats:
    """How far each place lies above the median, 1 at the peak."""
    median, peak = float(np.median(map)), float(map.max())
    found: Floats = np.maximum(map - np.float32(median), 0) / np.float32(max(peak - median, 1e-12))
    return found


def _peak(map: Floats) -> Floats:
    """The 3 x 3 places around the highest 3 x 3 mean."""
    y, x = np.unravel_index(cv2.blur(map, (3, 3)).argmax(), map.shape)
    weights = np.zeros_like(map)
    weights[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = 1
    return weights


def _region(map: Floats) -> Floats:
    """All that stands out, weighted by how much."""
    excess = _excess(map)
    weights: Floats = np.where(excess > LEVEL, excess, np.float32(0))
    return weights


def _soft(map: Floats) -> Floats:
    """Every place above the median, the higher the more."""
    weights: Floats = _excess(map) ** SHARPNESS
    return weights


POOLINGS: dict[str, Callable[[Floats], Floats]] = {"region": _region, "soft": _soft, "peak": _peak}


def found(map: Floats, pooling: str) -> Floats:
    """How much each place of an anomaly map [h, w] counts, as float32: what the model itself takes for anomalous."""
    return POOLINGS[pooling](np.asarray(map, np.float32))


def marked(mask: Mask) -> Floats:
    """The same of what somebody marked, bool [H, W]."""
    return np.asarray(mask, np.float32)


def pooled(embedding: Floats, weights: Floats, dimensions: int) -> Floats:
    """The first `dimensions` of an embedding [h, w, D], averaged with weights [H, W] of any size, as a vector of length
    1 (of length 0, where the mean is)."""
    height, width = embedding.shape[:2]
    way = cv2.INTER_AREA if weights.shape[0] >= height and weights.shape[1] >= width else cv2.INTER_LINEAR
    shares = cv2.resize(np.asarray(weights, np.float32), (width, height), interpolation=way).astype(np.float64)
    shares = shares / shares.sum() if shares.sum() > 0 else np.full((height, width), 1 / (height * width))
    mean = np.einsum("hw,hwd->d", shares, embedding[..., :dimensions].astype(np.float64))
    vector: Floats = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    return vector


def box(weights: Floats, size: tuple[int, int]) -> Box:
    """The box around what counts at least half as much as the most, in the part that holds the most, of a picture of
    that height and width."""
    top = float(weights.max())
    _, parts = cv2.connectedComponents((weights >= 0.5 * top).astype(np.uint8))
    x, y, w, h = cv2.boundingRect((parts == parts.flat[int(weights.argmax())]).astype(np.uint8))
    scale_y, scale_x = size[0] / weights.shape[0], size[1] / weights.shape[1]
    left, upper = int(x * scale_x), int(y * scale_y)
    return left, upper, max(1, round((x + w) * scale_x) - left), max(1, round((y + h) * scale_y) - upper)
