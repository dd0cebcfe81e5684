"""Accuracy of the verdicts of an anomaly detector, and of its image scores by defect type."""

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from stages.common.metrics import image_auroc


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
