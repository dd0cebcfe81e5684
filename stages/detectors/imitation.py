"""Training that makes a changed student, pruned or quantized, follow what the student computed before."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from edge.errors import UserError
from stages.common.progress import track
from stages.detectors import memory_bank
from stages.detectors.base import Run, check_samples
from stages.detectors.student import Student
from stages.graph.batchnorm import fold
from stages.graph.network import Network, nodes_channels
from stages.graph.prune import prune
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor
from stages.training.loop import minimise
from stages.training.synthetic_defects import training_pool
from stages.training.torch_setup import accelerator

CALIBRATION = 64  # pictures that batch norm and the sensitivities of the channels are measured on
FIRST_RANGES = 256  # pictures that the int8 ranges start from
QAT_RATE = 0.25  # of the learning rate of fine-tuning: fake quantization starts from a trained network


class Imitation:
    """Mask and patch embeddings of the student `run.source` on good pictures and synthetic defects are what its changed
    forms are trained to give; what comes out gets a memory bank of its own embeddings.

    settings: the section compress, and `images` and `batch` of distill.
    """

    def __init__(self, train: np.ndarray, val: np.ndarray, settings: Any, run: Run):
        check_samples(train, "train", 2)
        check_samples(val, "val")
        if not isinstance(run.source, Student):
            raise UserError(f"{run.stage}: {getattr(run.source, 'kind', None)} can't be compressed; give a student")
        self.train, self.val, self.settings, self.run, self.student = train, val, settings, run, run.source
        self.samples, _ = training_pool(train, settings.images, run.seed, 1)
        self.body = memory_bank.without_bank(self.student.network).to(memory_format=torch.channels_last)
        self.wanted = memory_bank.mask_and_embedding(fold(self.body), self.samples, lambda x: track(x, "reference"))
        self.device = accelerator()

    def follow(self, model, epochs: int, lr: float, label: str, after_epoch=None) -> None:
        """Trains `model` in place; every output counts in its own deviation."""
        spread = [float(output.std()) for output in self.wanted]

        def loss(pick):
            found = model(to_tensor(self.samples[pick.numpy()]).to(self.device))
            pairs = zip(found, self.wanted, spread, strict=True)
            return sum(F.smooth_l1_loss(output / s, target[pick].to(self.device) / s) for output, target, s in pairs)

        data, batch = (self.samples, *self.wanted), self.settings.batch
        model.to(self.device)
        minimise(model, loss, data, epochs, batch, lr, self.run.seed, self.run.stage, label, self.run.log, after_epoch)
        model.cpu()

    def with_bank(self, body: Network, computed_by) -> Network:
        """The whole student again, its memory bank as large as that of the first."""
        size = nodes_channels(self.student.network.nodes, "bank")
        bank = memory_bank.choose_bank(memory_bank.mask_and_embedding(computed_by, self.train)[1], size, self.run.seed)
        return memory_bank.with_bank(body, computed_by, bank, self.val, self.student.fusion["weight"])

    def quantized(self, body: Network, label: str) -> QuantNetwork:
        """`body` trained with fake quantization, then given its bank; the ranges of the bank are calibrated."""
        quantized = QuantNetwork(fold(body)).to(memory_format=torch.channels_last)
        quantized.train()
        first = to_tensor(self.samples[:FIRST_RANGES])
        with torch.no_grad():
            for part in first.split(16):
                quantized(part)
        epochs, lr = self.settings.qat_epochs, self.settings.lr * QAT_RATE
        self.follow(quantized, epochs, lr, label, lambda epoch: quantized.freeze_ranges())
        quantized.freeze_ranges()
        quantized.eval()
        whole = self.with_bank(quantized.network, quantized)
        return QuantNetwork.calibrated(whole, first, quantized)

    def pruned(self) -> Network:
        """The body without `prune_ratio` of its multiply-accumulates, fine-tuned."""
        smaller = prune(
            memory_bank.without_bank(self.student.network),
            self.settings.prune_ratio,
            to_tensor(self.samples[:CALIBRATION]),
            self.run.seed,
        )
        smaller.to(memory_format=torch.channels_last)
        self.follow(smaller, self.settings.finetune_epochs, self.settings.lr, "finetune")
        return smaller
