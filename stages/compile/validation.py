"""The thresholds of an exported file and its AUROC on validation pictures, without test pictures."""

from collections.abc import Sequence

import numpy as np

from edge.inference.detector import Detector
from stages.common.progress import track
from stages.compile import thresholds
from stages.training.validation_defects import damaged, family_aurocs


def validate(detector: Detector, good: Sequence[np.ndarray], settings, seed: int, groups: int | None = None) -> dict:
    """The fields `threshold` and `validation` of model.json, from good validation pictures uint8 [H, W, C].

    The thresholds rest on all their scores: on the pictures on which a student's parts were weighed they are no lower
    than on the others (docs/own-data.md). `auroc` compares candidates without test pictures: the mean image AUROC of
    every second picture against families of synthetic defects in them, which neither training nor a choice used (the
    parts of a student's map were brought to one scale on all of them). settings: params.compile; groups: how many parts
    or clips the pictures show.
    """
    judged = good[1::2] if len(good) > 1 else good
    defects = damaged(judged, seed + 1)

    def scores(samples, label):
        return np.array([detector.predict(image).score for image in track(samples, label)])

    found = scores(good, "validation")
    aurocs = family_aurocs(
        found[1::2] if len(good) > 1 else found,
        {name: scores(samples, f"validation, {name}") for name, samples in defects.items()},
    )
    return {
        "threshold": thresholds.find(found, settings.false_alarm_rate, settings.threshold, seed, groups),
        "validation": {
            "auroc": aurocs["mean"],
            "good": len(judged),
            "defects": sum(map(len, defects.values())),
        },
    }
