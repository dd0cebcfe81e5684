"""Accuracy of the verdicts of an anomaly detector, and of its image scores by defect type."""

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from edge.inference.scoring import is_defect
from stages.common.metrics import image_auroc


def decision_metrics(labels, decisions) -> dict[str, float]:
    """F1, precision and recall of the decisions defect (True) or good; each is 0 where it would divide by 0."""
    found = precision_recall_fscore_support(labels, decisions, average="binary", zero_division=0)
    return dict(zip(("precision", "recall", "f1"), map(float, found[:3]), strict=True))


def confusion(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, int]:
    """Defects `found` and `missed`, `false_alarms` and good pictures `passed` by a threshold; labels [N] of bool."""
    above = np.array([is_defect(float(score), threshold) for score in scores], bool)
    return {
        "found": int((labels & above).sum()),
        "missed": int((labels & ~above).sum()),
        "false_alarms": int((~labels & above).sum()),
        "passed": int((~labels & ~above).sum()),
    }


def per_defect_auroc(defects, scores) -> dict[str, float]:
    """Image AUROC of each defect type against all pictures whose defect is "good"; ValueError when none is good."""
    defects, scores = np.asarray(defects), np.asarray(scores)
    out = {}
    for defect in sorted(set(defects.tolist()) - {"good"}):
        chosen = (defects == "good") | (defects == defect)
        out[defect] = image_auroc(defects[chosen] == defect, scores[chosen])
    return out
