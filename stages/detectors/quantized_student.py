"""A student whose int8 scales and zero points were learned by quantization-aware training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np

from stages.detectors.base import MAP, Detector, Export, Run
from stages.detectors.imitation import Imitation
from stages.graph.batchnorm import fold
from stages.graph.quantize import QuantNetwork


class QuantizedStudent(Detector):
    """The student's network, batch norm folded, with the fake quantization that its int8 file will have."""

    kind = "quantized_student"

    def __init__(self, quantized: QuantNetwork):
        self.quantized = quantized

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """Quantization-aware training of the student `run.source`. settings: the section compress, and `images` and
        `batch` of distill."""
        imitation = Imitation(train, val, settings, run)
        return cls(imitation.quantized(imitation.body, "qat"))

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, str]:
        return SimpleNamespace(
            images=16, batch=8, qat_epochs=1, finetune_epochs=1, prune_ratio=0.2, lr=0.001
        ), "student"

    def write(self, folder: Path) -> dict:
        self.quantized.save(folder)
        return {}

    @classmethod
    def read(cls, folder: Path, settings: dict) -> Self:
        return cls(QuantNetwork.load(folder))

    def export(self) -> Export:
        network = fold(self.quantized.network)
        return Export(network, {name: MAP for name in network.heads}, quantized=self.quantized)
