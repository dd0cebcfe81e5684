"""From a map to a score, a verdict and a map to show; the same rules choose thresholds, evaluate and deploy."""

from __future__ import annotations

import math

import cv2
import numpy as np

from edge.arrays import Floats


def image_score(map: np.ndarray, rule: str = "max", smooth: int = 3, output: float | None = None) -> float:
    """The score of one picture from its float map [h, w]: the maximum after a mean filter of side `smooth` (odd,
    borders replicated), or, with rule "output", the model's own second output; ValueError when that is absent."""
    if rule == "output":
        if output is None:
            raise ValueError("the score rule is 'output', but the model returned a map only")
        return float(output)
    if rule != "max":
        raise ValueError(f"score rule {rule!r}: must be 'max' or 'output'")
    return float(smoothed(map, smooth).max())


def smoothed(map: np.ndarray, smooth: int) -> Floats:
    """The map of which the rule "max" takes the largest value, float32 [h, w]."""
    map = np.asarray(map, np.float32)
    return cv2.blur(map, (smooth, smooth), borderType=cv2.BORDER_REPLICATE) if smooth > 1 else map


def is_defect(score: float, threshold: float) -> bool:
    """The verdict: a score above the threshold is a defect, one that equals it is good."""
    return score > threshold


def calibrated(score: float, threshold: float, median: float | None) -> float:
    """A score from 0 to 1 on a logistic curve: 0.5 at the threshold, 0.05 at the `median` of good validation scores; in
    units of the threshold where no median below it is known. It says where a score lies, not how likely a defect is."""
    spread = threshold - median if median is not None and median < threshold else abs(threshold) or 1.0
    z = min(max((score - threshold) / spread, -200.0), 200.0)  # keeps the exponential finite
    return 1 / (1 + math.exp(-math.log(19) * z))


def auroc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve: how often a defect (label 1) scores above a good one, a tie counting half
    (Mann-Whitney); None without both."""
    labels = np.asarray(labels, bool)
    if not labels.any() or labels.all():
        return None
    _, inverse, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[inverse]  # ties share their mean rank
    positive, negative = labels.sum(), (~labels).sum()
    return float((rank[labels].sum() - positive * (positive + 1) / 2) / (positive * negative))


def anomaly_map(map: np.ndarray, height: int, width: int, sigma: float, area: tuple[int, int] | None = None) -> Floats:
    """The map [h, w] as float32 [height, width] to show and to compare with masks: bilinear, then a Gaussian blur of
    `sigma` pixels (0: none), cut off at 4 sigma, borders replicated. area: height and width of the upper left part that
    the picture fills, to which the map is cut before the blur."""
    shown: Floats = cv2.resize(np.asarray(map, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    if area is not None:
        shown = shown[: area[0], : area[1]]
    if sigma > 0:
        side = 2 * int(4 * sigma + 0.5) + 1
        shown = cv2.GaussianBlur(shown, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    return shown
