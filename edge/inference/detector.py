"""A model folder as something that looks at pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.inference import scoring
from edge.inference.modelfile import ModelInfo, open_model
from edge.inference.runtimes import open_runtime
from edge.preprocess import resize


@dataclass(frozen=True)
class Prediction:
    """What the model says about one picture; `map` is float32 [height, width] of the model's input."""

    score: float
    is_defect: bool
    map: np.ndarray


class Detector:
    """A deployed model with its runtime; ModelError when the folder or the runtime is not usable."""

    def __init__(self, info: ModelInfo, threads: int = 1, delegate: str | None = None):
        self.info = info
        self.runtime = open_runtime(info, threads, delegate)

    def predict(self, image: np.ndarray) -> Prediction:
        """The verdict on a picture, uint8 [H, W, 3] RGB of any size: it is stretched to the model's input."""
        spec, rule = self.info.input, self.info.score
        map, output = self.runtime.run(resize(image, spec.height, spec.width))
        score = scoring.image_score(map, rule.rule, rule.smooth, output)
        shown = scoring.anomaly_map(map, spec.height, spec.width, rule.sigma)
        return Prediction(score, scoring.is_defect(score, self.info.threshold), shown)


def load(folder: str | Path, threads: int = 1, delegate: str | None = None) -> Detector:
    """The detector in a model folder, on `threads` CPU threads or on the accelerator of a delegate ("edgetpu")."""
    return Detector(open_model(folder), threads, delegate)
