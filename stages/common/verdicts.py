"""Verdicts at several thresholds of a probability: confusion matrix, precision, recall and F1 of each."""

import numpy as np

THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


def table(labels, scores) -> list[dict]:
    """A row for each of THRESHOLDS: `threshold`, the counts `tn`, `fp`, `fn`, `tp`, and `precision`, `recall` and `f1`,
    0 where they would divide by 0. As on a device, a score above the threshold is a defect."""
    labels, scores = np.asarray(labels, bool), np.asarray(scores)
    rows = []
    for threshold in THRESHOLDS:
        said = scores > threshold
        tp, fp = int((said & labels).sum()), int((said & ~labels).sum())
        fn, tn = int((~said & labels).sum()), int((~said & ~labels).sum())
        row = {"threshold": threshold, "tn": tn, "fp": fp, "fn": fn, "tp": tp}
        row |= {"precision": tp / max(1, tp + fp), "recall": tp / max(1, tp + fn)}
        rows.append(row | {"f1": 2 * tp / max(1, 2 * tp + fp + fn)})
    return rows


def best(rows: list[dict]) -> dict:
    """The row of the highest F1; of equals the one in the middle, since their neighbours are as good."""
    highest = max(row["f1"] for row in rows)
    equals = [row for row in rows if row["f1"] == highest]
    return equals[len(equals) // 2]
