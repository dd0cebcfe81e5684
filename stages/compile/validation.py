"""The threshold of an exported file and its AUROC on validation pictures, without test pictures."""

import numpy as np

from edge.inference.detector import Detector
from stages.common.progress import track
from stages.training.validation_defects import family_aurocs, validation_defects


def validate(detector: Detector, good: np.ndarray, quantile: float, seed: int) -> dict:
    """The fields `threshold` and `validation` of model.json, from good validation pictures uint8 [N, S, S, C].

    The threshold is a quantile of their scores. `auroc` compares candidates without test pictures: the mean image AUROC
    of every second picture against families of synthetic defects in them, which neither training nor a choice used (the
    parts of a student's map were brought to one scale on all of them).
    """
    judged = good[1::2] if len(good) > 1 else good
    defects = validation_defects(judged, seed + 1)

    def scores(samples, label):
        return np.array([detector.predict(image).score for image in track(samples, label)])

    found = scores(good, "validation")
    aurocs = family_aurocs(
        found[1::2] if len(good) > 1 else found,
        {name: scores(samples, f"validation, {name}") for name, samples in defects.items()},
    )
    value = float(np.quantile(found, quantile))
    return {
        "threshold": {
            "value": value,
            "method": f"{quantile} quantile of {len(good)} good validation scores",
            "median": float(np.median(found)),
        },
        "validation": {
            "auroc": aurocs["mean"],
            "good": len(judged),
            "defects": sum(map(len, defects.values())),
        },
    }
