"""The threshold of an exported file and its AUROC on validation pictures, without test pictures."""

import numpy as np

from edge.inference.detector import Detector
from stages.common import thresholds
from stages.common.metrics import image_auroc
from stages.common.progress import track
from stages.training.validation_defects import family_aurocs, validation_defects


def validate(
    detector: Detector, good: np.ndarray, quantile: float, seed: int, labelled: np.ndarray | None = None
) -> dict:
    """The fields `threshold` and `validation` of model.json, from good validation pictures uint8 [N, S, S, C].

    The threshold is a quantile of their scores. `auroc` compares candidates without test pictures: the mean image AUROC
    of every second picture against families of synthetic defects in them, which neither training nor a choice used (the
    parts of a student's map were brought to one scale on all of them).

    labelled: real defects of validation, of a detector that learned from such; its score is a probability, and its
    threshold the one of thresholds.THRESHOLDS with the best F1 on all validation pictures.
    """
    if labelled is not None:
        return _validate_labelled(detector, good, labelled)
    judged = good[1::2] if len(good) > 1 else good
    defects = validation_defects(judged, seed + 1)
    found = _scores(detector, good, "validation")
    aurocs = family_aurocs(
        found[1::2] if len(good) > 1 else found,
        {name: _scores(detector, samples, f"validation, {name}") for name, samples in defects.items()},
    )
    value = float(np.quantile(found, quantile))
    return {
        "threshold": {"value": value, "method": f"{quantile} quantile of {len(good)} good validation scores"},
        "validation": {
            "auroc": aurocs["mean"],
            "good": len(judged),
            "defects": sum(map(len, defects.values())),
        },
    }


def _validate_labelled(detector: Detector, good: np.ndarray, defects: np.ndarray) -> dict:
    scores = _scores(detector, np.concatenate([good, defects]), "validation")
    labels = np.repeat([0, 1], [len(good), len(defects)])
    rows = thresholds.table(labels, scores)
    chosen = thresholds.best(rows)
    low, high = thresholds.THRESHOLDS[0], thresholds.THRESHOLDS[-1]
    method = (
        f"best F1 ({chosen['f1']:.3f}) of the thresholds {low} to {high} on {len(good)} good and {len(defects)} "
        "defective validation pictures"
    )
    counts = {"good": len(good), "defects": len(defects)}
    return {
        "threshold": {"value": chosen["threshold"], "method": method},
        "validation": {"auroc": image_auroc(labels, scores), **counts, "thresholds": rows},
    }


def _scores(detector: Detector, samples: np.ndarray, label: str) -> np.ndarray:
    return np.array([detector.predict(image).score for image in track(samples, label)])
