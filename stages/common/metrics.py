"""Figures that several stages need: image AUROC and average precision (scikit-learn's), steps between int8 outputs."""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score


def image_auroc(labels, scores) -> float:
    """Area under the ROC curve, ties counted half; ValueError unless both classes are there."""
    return float(roc_auc_score(*checked(labels, scores)))


def average_precision(labels, scores) -> float:
    """Sum of precision times gain in recall over all distinct thresholds; ValueError unless both classes are there."""
    return float(average_precision_score(*checked(labels, scores)))


def difference(found: np.ndarray, wanted: np.ndarray) -> dict:
    """The fraction of equal integer outputs (`exact`), of those at most one step apart, and the largest difference."""
    steps = np.abs(found.astype(np.int64) - wanted.astype(np.int64))
    return {"exact": float((steps == 0).mean()), "within_1": float((steps <= 1).mean()), "max_lsb": int(steps.max())}


def checked(labels, scores) -> tuple[np.ndarray, np.ndarray]:
    """Labels as bool beside finite scores of the same shape, both classes present; else ValueError."""
    labels, scores = np.asarray(labels, bool), np.asarray(scores)
    if labels.shape != scores.shape:
        raise ValueError(f"{labels.shape} labels for {scores.shape} scores")
    if not labels.any() or labels.all():
        raise ValueError("only one class is present; both good and defect are needed")
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity")
    return labels, scores
