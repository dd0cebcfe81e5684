"""A student in int8: calibrated after training, or trained with fake quantization."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np

from stages.detectors.base import MAP, Detector, Export, Run
from stages.detectors.imitation import Imitation
from stages.detectors.student import Student
from stages.graph.batchnorm import fold
from stages.graph.bias_correction import calibrated, how
from stages.graph.network import Network
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor
from stages.training.fake_quantization import TRAINED
from stages.training.synthetic_defects import training_pool

CALIBRATION = 256  # pictures, half with a synthetic defect, that int8 ranges are calibrated on: a choice


class QuantizedStudent(Detector):
    """The student's network, batch norm folded, with the fake quantization that its int8 file will have.

    Its memory banks hold the embeddings that the int8 network computes. trained: with fake quantization.
    """

    kind = "quantized_student"

    def __init__(self, quantized: QuantNetwork, trained: bool):
        self.quantized, self.trained = quantized, trained

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """The int8 form of the student `run.source`. settings: the section compress, and `images` and `batch` of
        distill."""
        imitation = Imitation(train, val, settings, run)
        return cls.of(imitation.student, imitation.body, imitation.train, val, run.seed, imitation)

    @classmethod
    def of(
        cls, student: Student, body: Network, train: np.ndarray, val: np.ndarray, seed: int, training=None, label="qat"
    ) -> Self:
        """The int8 form of `body`, which is `student` or its pruned form without memory banks.

        Calibrated on good pictures and synthetic defects, biases corrected (bias_correction.py); trained with fake
        quantization where `training`, an Imitation, has epochs for it. Then it is given memory banks of its own
        embeddings, as large as the student's.
        """
        images = to_tensor(training_pool(train, CALIBRATION, seed, 1)[0])
        trained = training is not None and training.settings.qat_epochs > 0
        quantized = training.with_fake_quantization(body, images, label) if trained else calibrated(fold(body), images)
        whole, _ = student.with_own_banks(quantized.network, quantized, train, val, seed)
        return cls(QuantNetwork.calibrated(whole, images, quantized), trained)

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
