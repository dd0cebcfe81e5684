"""Self-distillation after compression: a pruned or quantized student is trained to reproduce the original's outputs."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from edge.errors import UserError
from stages.common.progress import track
from stages.detectors import memory_bank, poses
from stages.detectors.base import Run, check_samples
from stages.detectors.student import Student
from stages.graph.batchnorm import fold
from stages.graph.network import Network
from stages.graph.prune import prune
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import deviation, listed, to_tensor
from stages.training.fake_quantization import RATE, with_fake_quantization
from stages.training.loop import minimise
from stages.training.synthetic_defects import training_pool
from stages.training.torch_setup import accelerator

CALIBRATION = 64  # pictures that pruning measures batch norm statistics and sensitivities on: a choice


class Imitation:
    """Trains pruned and quantized forms of the student `run.source`.

    Targets are the student's mask and patch embeddings on good pictures, half of them with a synthetic defect. Each
    trained form then gets memory banks of its own embeddings of `train`: the pictures that the student learned from,
    their copies in other poses included. settings: the section compress, and `images` and `batch` of distill. UserError
    where the source is no student.
    """

    def __init__(self, train: np.ndarray, val: np.ndarray, settings: Any, run: Run):
        check_samples(train, "train", 2)
        check_samples(val, "val")
        if not isinstance(run.source, Student):
            raise UserError(f"{run.stage}: {getattr(run.source, 'kind', None)} can't be compressed; give a student")
        self.train = train = poses.joined(train, run.source.record, run.seed)
        self.val, self.settings, self.run, self.student = val, settings, run, run.source
        self.samples, _ = training_pool(train, settings.images, run.seed, 1)
        self.body = memory_bank.without_banks(self.student.network).to(memory_format=torch.channels_last)
        found = memory_bank.outputs(fold(self.body), self.samples, lambda x: track(x, "reference"))
        self.wanted = list(found.values())
        self.device = accelerator()

    def follow(self, model, epochs: int, lr: float, label: str, after_epoch=None) -> None:
        """Trains `model` in place: smooth L1 loss of mask and embeddings, each divided by its targets' deviation."""
        spread = [deviation(output, "an output of the student to compress") for output in self.wanted]

        def loss(pick):
            found = listed(model(to_tensor(self.samples[pick.numpy()]).to(self.device)))
            pairs = zip(found, self.wanted, spread, strict=True)
            return sum(F.smooth_l1_loss(output / s, target[pick].to(self.device) / s) for output, target, s in pairs)

        data, batch = (self.samples, *self.wanted), self.settings.batch
        model.to(self.device)
        minimise(model, loss, data, epochs, batch, lr, self.run.seed, self.run.stage, label, self.run.log, after_epoch)
        model.cpu()

    def with_fake_quantization(self, body: Network, images: torch.Tensor, label: str) -> QuantNetwork:
        """`body` after quantization-aware training; `images` as fake_quantization.py has them."""
        epochs, lr = self.settings.qat_epochs, self.settings.lr * RATE
        return with_fake_quantization(
            body, images, lambda model, after_epoch: self.follow(model, epochs, lr, label, after_epoch)
        )

    def pruned(self) -> Network:
        """The student without its memory bank and without `prune_ratio` of its multiply-accumulates, fine-tuned."""
        smaller = prune(
            memory_bank.without_banks(self.student.network),
            self.settings.prune_ratio,
            to_tensor(self.samples[:CALIBRATION]),
            self.run.seed,
        )
        smaller.to(memory_format=torch.channels_last)
        self.follow(smaller, self.settings.finetune_epochs, self.settings.lr, "finetune")
        return smaller
