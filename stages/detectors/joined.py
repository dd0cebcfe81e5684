"""Feature maps of several kinds in one patch embedding: here of several networks, in motion.py of motion too.

Kinds are balanced: over the training samples each has the mean square deviation 1 in all, since without it one of many
channels or large values would drown the others.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from edge.errors import UserError
from stages.common.dataset import evenly
from stages.common.textfile import short
from stages.detectors.backbone import FeatureExtractor
from stages.graph.tensors import flatten_patches, to_tensor

FILE = "joined.json"
BALANCED = 64  # training samples that kinds are balanced on: a choice
FLAT = 1e-6  # of a mean square: of what never changes, as the flow where nothing moves


class Balanced(nn.Module):
    """The feature maps of several kinds, one after the other, each multiplied by the factor of its kind (`balance`)."""

    def __init__(self, balance: Sequence[float]):
        super().__init__()
        self.balance = tuple(balance)

    def kinds(self, images: torch.Tensor) -> list[list[torch.Tensor]]:
        """The maps of each kind, before they are balanced."""
        raise NotImplementedError

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [part * by for maps, by in zip(self.kinds(images), self.balance, strict=True) for part in maps]

    @torch.inference_mode()
    def fit_balance(self, train: np.ndarray) -> None:
        """Chooses the factors on samples uint8 [N, H, W, C], all maps in the size of the first, as they are joined."""
        parts: list[list[torch.Tensor]] = [[] for _ in self.balance]
        drawn = train[evenly(range(len(train)), BALANCED)]
        for i in range(0, len(drawn), 8):
            kinds = self.kinds(to_tensor(drawn[i : i + 8]))
            size = kinds[0][0].shape[-2:]
            for found, maps in zip(parts, kinds, strict=True):
                resized = [F.interpolate(part, size=size, mode="bilinear", align_corners=False) for part in maps]
                found.append(flatten_patches(torch.cat(resized, 1)))
        spread = [float(torch.cat(found).double().var(0, correction=0).sum()) for found in parts]
        self.balance = tuple(max(value, FLAT) ** -0.5 for value in spread)


class JoinedExtractor(Balanced):
    """Samples [N, C, H, W] in 0..1 to the feature maps of several networks, each with its own normalisation."""

    def __init__(self, networks: Sequence[FeatureExtractor], balance: Sequence[float] | None = None):
        super().__init__(balance or [1.0] * len(networks))
        self.networks = nn.ModuleList(networks)

    @classmethod
    def pretrained(
        cls, names: Sequence[str], layers: Sequence[list[int]], scales: Sequence[float], train: np.ndarray
    ) -> "JoinedExtractor":
        """The networks of these names at the `layers` of each, balanced on samples uint8 [N, H, W, C]."""
        networks = []
        for name, wanted in zip(names, layers, strict=True):
            try:
                networks.append(FeatureExtractor.pretrained(name, wanted, scales))
            except UserError as error:
                if short(name) in str(error):
                    raise
                raise UserError(f"{error} ({short(name)})") from None  # which of the networks has no such layers
        joined = cls(networks).eval()
        joined.fit_balance(train)
        return joined

    def kinds(self, images: torch.Tensor) -> list[list[torch.Tensor]]:
        return [network(images) for network in self.networks]

    def save(self, folder: Path) -> None:
        """Writes the files of each network, numbered, and their factors."""
        for i, network in enumerate(self.networks):
            network.save(folder, f"backbone-{i}")
        (folder / FILE).write_text(json.dumps({"balance": list(self.balance)}, indent=2) + "\n")


def load(folder: Path) -> FeatureExtractor | JoinedExtractor:
    """The extractor in an artifact folder, of one network or several."""
    if not (folder / FILE).exists():
        return FeatureExtractor.load(folder)
    balance = json.loads((folder / FILE).read_text())["balance"]
    networks = [FeatureExtractor.load(folder, f"backbone-{i}") for i in range(len(balance))]
    return JoinedExtractor(networks, balance).eval()
