"""Accuracy of an anomaly detector: of its image scores, and of its maps against ground truth masks."""

import cv2
import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from stages.common.metrics import checked, image_auroc


def decision_metrics(labels, decisions) -> dict[str, float]:
    """F1, precision and recall of the decisions defect (True) or good; each is 0 where it would divide by 0."""
    found = precision_recall_fscore_support(labels, decisions, average="binary", zero_division=0)
    return dict(zip(("precision", "recall", "f1"), map(float, found[:3]), strict=True))


def per_defect_auroc(defects, scores) -> dict[str, float]:
    """Image AUROC of each defect type against all pictures whose defect is "good"; ValueError when none is good."""
    defects, scores = np.asarray(defects), np.asarray(scores)
    out = {}
    for defect in sorted(set(defects.tolist()) - {"good"}):
        chosen = (defects == "good") | (defects == defect)
        out[defect] = image_auroc(defects[chosen] == defect, scores[chosen])
    return out


def pixel_metrics(maps, masks, fpr_limit: float = 0.3) -> dict[str, float]:
    """Pixel AUROC and AUPRO of float32 maps [N, H, W] against bool masks [N, H, W]; ValueError unless both classes.

    AUPRO (Bergmann et al., MVTec AD, IJCV 2021): the overlap with each 8-connected defect region, averaged over the
    regions, integrated over the false positive rate from 0 to `fpr_limit` and divided by `fpr_limit`. Exact: every
    distinct value of the maps is a threshold, and the curve is interpolated linearly at the limit. Both come from one
    sort of the good pixels, which takes less time and memory than scikit-learn's curve over all pixels.
    """
    maps, masks = np.asarray(maps), np.asarray(masks)
    if maps.shape != masks.shape or maps.ndim != 3 or masks.dtype != bool:
        raise ValueError(f"maps {maps.shape} and bool masks {masks.shape} [{masks.dtype}] must be [N, H, W] alike")
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit {fpr_limit} is outside (0, 1]")
    checked(masks, maps)
    good = maps[~masks]
    good.sort()
    defect = maps[masks]
    fpr, tpr = _curve(good, defect, np.full(defect.size, 1 / defect.size))
    auroc = float(np.trapezoid(tpr, fpr))
    fpr, overlap = _curve(good, defect, _region_weights(masks))
    return {"pixel_auroc": auroc, "aupro": _area_to(fpr, overlap, fpr_limit) / fpr_limit}


def _tie_ends(descending: np.ndarray) -> np.ndarray:
    """The last index of each run of equal values."""
    return np.append(np.flatnonzero(np.diff(descending)), descending.size - 1)


def _region_weights(masks: np.ndarray) -> np.ndarray:
    """For each defect pixel, in the order of `maps[masks]`: 1 / (pixels of its region x number of regions)."""
    weights, regions = [], 0
    for mask in masks:
        if mask.any():
            count, labelled = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
            labelled = labelled[mask]
            weights.append(1 / np.bincount(labelled)[labelled])
            regions += count - 1
    return np.concatenate(weights) / regions


def _curve(good: np.ndarray, defect: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points (fraction of `good` at or above t, weight of `defect` at or above t) as t falls; `good` is ascending.

    Between two defect scores the curve is level, so that the points before and at each distinct defect score suffice:
    the many good pixels are sorted once and never walked.
    """
    order = np.argsort(-defect, kind="stable")
    gained = np.cumsum(weights[order], dtype=np.float64)
    ends = _tie_ends(defect[order])
    thresholds, gained = defect[order][ends], gained[ends] / gained[-1]
    before = good.size - np.searchsorted(good, thresholds, side="right")
    at = good.size - np.searchsorted(good, thresholds, side="left")
    x = np.stack([before, at], 1).ravel() / good.size
    y = np.stack([np.append(0, gained[:-1]), gained], 1).ravel()
    return np.concatenate([[0], x, [1]]), np.concatenate([[0], y, [1]])


def _area_to(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    """The area under the curve from 0 to `limit`."""
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside < x.size:
        slope = (y[inside] - y[inside - 1]) / (x[inside] - x[inside - 1])
        at_limit = y[inside - 1] + slope * (limit - x[inside - 1])
        x, y = np.append(x[:inside], limit), np.append(y[:inside], at_limit)
    return float(np.trapezoid(y, x))
