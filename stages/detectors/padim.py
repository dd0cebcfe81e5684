"""PaDiM (Defard et al., ICPR Workshops 2021): a Gaussian of the features of good pictures, for every position or one
for all; the map is the Mahalanobis distance to it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Self

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import nn

from edge.errors import UserError
from stages.common.progress import track
from stages.common.schema import Features
from stages.detectors import joined
from stages.detectors.backbone import FeatureExtractor
from stages.detectors.base import MAP, Detector, Export, Run, check_samples
from stages.detectors.patchcore import SIMCLR, feature_extractor, patch_embeddings
from stages.graph.tensors import to_tensor

RIDGE = 0.01  # added to the variances, as in the paper


class Settings(Features):
    channels: Annotated[int, Field(ge=1, le=4096)]  # features drawn at random of all (the paper: 100 of ResNet-18's)
    per_position: bool  # a Gaussian for each position, for pictures that lie alike; false: one for all


class Padim(Detector, nn.Module):
    """Samples [N, C, S, S] in 0..1 to anomaly maps [N, 1, h, w]."""

    kind = "padim"
    Settings = Settings

    def __init__(self, extractor: FeatureExtractor, chosen: torch.Tensor, mean: torch.Tensor, white: torch.Tensor):
        """chosen: the features [d] that are used. mean: [P, 1, d], P positions or 1. white: [P, d, d], whose product
        with its transpose is the inverse covariance."""
        nn.Module.__init__(self)
        self.extractor = extractor
        for name, value in (("chosen", chosen), ("mean", mean), ("white", white)):
            self.register_buffer(name, value)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = patch_embeddings(self.extractor(images), 1)[:, self.chosen]
        n, d, h, w = features.shape
        patches = features.permute(2, 3, 0, 1).reshape(h * w, n, d)
        if len(self.mean) == 1:
            patches = patches.reshape(1, h * w * n, d)
        distances = torch.bmm(patches - self.mean, self.white).square().sum(2).sqrt()
        return distances.reshape(h, w, 1, n).permute(3, 2, 0, 1)

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """Mean and covariance of the features of `train`; `val` is not used."""
        check_samples(train, "train", 2)
        extractor = feature_extractor(settings, train, run).to(memory_format=torch.channels_last)
        with torch.no_grad():
            depth = patch_embeddings(extractor(to_tensor(train[:1])), 1).shape[1]
            if settings.channels > depth:
                raise UserError(
                    f"{run.stage}: channels = {settings.channels}: the backbone's layers have {depth}; give no more"
                )
            order = torch.randperm(depth, generator=torch.Generator().manual_seed(run.seed))
            chosen = order[: settings.channels].sort().values
            total, products, count = torch.zeros(()), torch.zeros(()), 0
            for i in track(range(0, len(train), 8), "features"):
                features = patch_embeddings(extractor(to_tensor(train[i : i + 8])), 1)[:, chosen].double()
                patches = features.permute(2, 3, 0, 1).flatten(0, 1)  # [P, n, d]
                if not settings.per_position:
                    patches = patches.reshape(1, -1, len(chosen))
                total, products = total + patches.sum(1, True), products + patches.transpose(1, 2) @ patches
                count += patches.shape[1]
            mean = total / count
            covariance = (products - count * mean.transpose(1, 2) @ mean) / (count - 1)
            covariance += RIDGE * torch.eye(len(chosen), dtype=torch.double)
            white = torch.linalg.inv(torch.linalg.cholesky(covariance)).transpose(1, 2)
        print(f"{run.stage}: {len(mean)} Gaussian{'s' * (len(mean) > 1)} of {len(chosen)} of {depth} features")
        return cls(extractor, chosen, mean.float(), white.float().contiguous())

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, None]:
        return SimpleNamespace(**SIMCLR, channels=12, per_position=True), None

    def write(self, folder: Path) -> dict:
        self.extractor.save(folder)
        values = {name: getattr(self, name).contiguous() for name in ("chosen", "mean", "white")}
        save_file(values, folder / "gaussian.safetensors")
        return {}

    @classmethod
    def read(cls, folder: Path, settings: dict) -> Self:
        return cls(joined.load(folder), **load_file(folder / "gaussian.safetensors")).eval()

    def export(self) -> Export:
        return Export(self.eval(), {"map": MAP})
