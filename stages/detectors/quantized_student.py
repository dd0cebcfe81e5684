"""A student in int8: calibrated after training, or trained with fake quantization."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np

from stages.detectors import memory_bank
from stages.detectors.base import MAP, Detector, Export, Run
from stages.detectors.imitation import Imitation
from stages.detectors.student import Student
from stages.graph.batchnorm import fold
from stages.graph.bias_correction import calibrated, how
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor
from stages.training.fake_quantization import TRAINED
from stages.training.synthetic_defects import training_pool

CALIBRATION = 256  # pictures, half with a synthetic defect, that int8 ranges are calibrated on: a choice


class QuantizedStudent(Detector):
    """The student's network, batch norm folded, with the fake quantization that its int8 file will have.

    A calibrated one keeps the memory banks of the float student; trained with fake quantization, it has its own.
    """

    kind = "quantized_student"

    def __init__(self, quantized: QuantNetwork, trained: bool):
        self.quantized, self.trained = quantized, trained

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """The int8 form of the student `run.source`. settings: the section compress, and `images` and `batch` of
        distill."""
        imitation = Imitation(train, val, settings, run)
        return cls.of(imitation.student, imitation.train, val, run.seed, imitation)

    @classmethod
    def of(cls, student: Student, train: np.ndarray, val: np.ndarray, seed: int, training=None, label="qat") -> Self:
        """The int8 form of a student, pruned or not.

        Calibrated on good pictures and synthetic defects (bias_correction.py), memory banks included: the coreset that
        another draw or the noise of rounding gives differs more in accuracy than rounding itself. Trained with fake
        quantization where `training`, an Imitation, has epochs for it; then its memory banks hold embeddings of its
        own, since training changes them.
        """
        images = to_tensor(training_pool(train, CALIBRATION, seed, 1)[0])
        if training is None or not training.settings.qat_epochs:
            return cls(calibrated(fold(student.network), images), False)
        quantized = training.with_fake_quantization(memory_bank.without_banks(student.network), images, label)
        whole, _ = student.with_own_banks(quantized.network, quantized, train, val, seed)
        return cls(QuantNetwork.calibrated(whole, images, quantized), True)

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, str]:
        return SimpleNamespace(
            images=16, batch=8, qat_epochs=1, finetune_epochs=1, prune_ratio=0.2, lr=0.001
        ), "student"

    def write(self, folder: Path) -> dict:
        self.quantized.save(folder)
        return {"trained": self.trained}

    @classmethod
    def read(cls, folder: Path, settings: dict) -> Self:
        return cls(QuantNetwork.load(folder), settings["trained"])

    def export(self) -> Export:
        network = fold(self.quantized.network)
        outputs = {name: MAP for name in network.heads}
        return Export(network, outputs, quantized=self.quantized, ranges=TRAINED if self.trained else how(CALIBRATION))
