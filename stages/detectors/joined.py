"""Feature maps of several kinds in one patch embedding: appearance and motion (motion.py).

Kinds are balanced: over the training samples each has the mean square deviation 1 in all, since without it one of many
channels or large values would drown the others.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from stages.common.dataset import evenly
from stages.graph.tensors import flatten_patches, to_tensor

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
