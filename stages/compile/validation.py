"""What validation pictures say about an exported file: its threshold, and an AUROC that no test picture enters."""

import numpy as np

from edge.inference.detector import Detector
from stages.common.metrics import image_auroc
from stages.common.progress import track
from stages.training.cutpaste import validation_defects


def validate(detector: Detector, good: np.ndarray, quantile: float, seed: int) -> dict:
    """The fields `threshold` and `validation` of model.json, for good validation pictures uint8 [N, S, S, 3].

    The threshold is a quantile of their scores. `auroc` is the image AUROC of them against CutPaste defects, which
    training does not use: what to compare candidates by before test is opened.
    """
    defects = validation_defects(good, seed)
    scores = [detector.predict(image).score for image in track(np.concatenate([good, defects]), "validation")]
    value = float(np.quantile(scores[: len(good)], quantile))
    labels = np.arange(len(scores)) >= len(good)
    return {
        "threshold": {"value": value, "method": f"{quantile} quantile of {len(good)} good validation scores"},
        "validation": {"auroc": image_auroc(labels, scores), "good": len(good), "cutpaste": len(defects)},
    }
