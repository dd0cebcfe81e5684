"""The threshold of an exported file and its AUROC on validation pictures, without test pictures."""

import numpy as np

from edge.inference.detector import Detector
from stages.common.metrics import image_auroc
from stages.common.progress import track
from stages.training.cutpaste import validation_defects


def validate(detector: Detector, good: np.ndarray, quantile: float, seed: int) -> dict:
    """The fields `threshold` and `validation` of model.json, from good validation pictures uint8 [N, S, S, C].

    The threshold is a quantile of their scores. `auroc` is the image AUROC of them against CutPaste defects, which
    training does not use: it compares candidates without test pictures.
    """
    defects = validation_defects(good, seed)
    scores = [detector.predict(image).score for image in track(np.concatenate([good, defects]), "validation")]
    value = float(np.quantile(scores[: len(good)], quantile))
    labels = np.arange(len(scores)) >= len(good)
    return {
        "threshold": {"value": value, "method": f"{quantile} quantile of {len(good)} good validation scores"},
        "validation": {"auroc": image_auroc(labels, scores), "good": len(good), "cutpaste": len(defects)},
    }
