"""The student: a small network, distilled from the teacher's patch embeddings, with a mask and its own memory bank."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F

from stages.common.progress import track
from stages.detectors import memory_bank, score_fusion
from stages.detectors.base import MAP, Detector, Export, Run, check_samples
from stages.detectors.student_init import new_student
from stages.detectors.student_network import EMBEDDING, PATCH_STRIDE, STRIDE
from stages.graph.batchnorm import fold
from stages.graph.network import Network
from stages.graph.tensors import to_tensor
from stages.training.loop import minimise
from stages.training.synthetic_defects import training_pool
from stages.training.targets import EmbeddingTargets
from stages.training.torch_setup import accelerator, mixed


class Student(Detector):
    """A network of nodes with the one output `score` (anomaly map at stride 8), and how its score fusion was chosen."""

    kind = "student"

    def __init__(self, network: Network, fusion: dict):
        self.network, self.fusion = network, fusion

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """Distils the teacher `run.source`, then builds memory bank and score fusion.

        settings: the sections student and distill as one. The loss is the mean squared error against the teacher's
        embeddings (PCA, targets.py) plus the binary cross entropy of the mask against synthetic defects.
        """
        check_samples(train, "train", 2)
        check_samples(val, "val")
        size = train.shape[1]
        samples, masks = training_pool(train, settings.images, run.seed)
        targets = EmbeddingTargets(
            run.source, train, size // PATCH_STRIDE, EMBEDDING, lambda x: track(x, "principal components")
        )
        wanted = targets(samples, lambda x: track(x, "teacher embeddings"))
        areas = F.max_pool2d(torch.from_numpy(masks).float().unsqueeze(1), STRIDE)
        body = new_student(settings.init, settings.width, to_tensor(samples[:64]))
        device = accelerator()
        body.to(device, memory_format=torch.channels_last)

        def loss(pick: torch.Tensor) -> torch.Tensor:
            with mixed(device):
                mask, embedding = body(to_tensor(samples[pick.numpy()]).to(device))
            feature_loss = F.mse_loss(embedding.float(), wanted[pick].to(device))
            mask_loss = F.binary_cross_entropy_with_logits(mask.float(), areas[pick].to(device))
            return settings.feature_weight * feature_loss + settings.mask_weight * mask_loss

        weights = settings.feature_weight, settings.mask_weight
        minimise(
            body,
            loss,
            (samples, wanted, areas),
            settings.epochs,
            settings.batch,
            settings.lr,
            run.seed,
            run.stage,
            "distill",
            run.log,
            settings=weights,
        )
        body.cpu()
        memory_bank.centre(body, train)
        embeddings = memory_bank.mask_and_embedding(body, train)[1]
        bank = memory_bank.choose_bank(embeddings, memory_bank.bank_size(settings), run.seed)
        fusion = score_fusion.choose_fusion_weight(body, bank, val, run.seed)
        print(f"{run.stage}: {len(bank)} patch embeddings in the memory bank; weight of the mask {fusion['weight']}")
        return cls(memory_bank.with_bank(body, body, bank, val, fusion["weight"]), fusion)

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, str]:
        settings = {"init": "scratch", "width": 0.25, "bank": 64, "images": 64, "epochs": 8, "batch": 8, "lr": 0.002}
        return SimpleNamespace(**settings, feature_weight=1.0, mask_weight=0.3), "patchcore"

    def write(self, folder: Path) -> dict:
        self.network.save(folder)
        return {"fusion": self.fusion}

    @classmethod
    def read(cls, folder: Path, settings: dict) -> Self:
        return cls(Network.load(folder), settings["fusion"])

    def export(self) -> Export:
        network = fold(self.network)
        return Export(network, {name: MAP for name in network.heads})

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.activations(images)["embed"]
