"""Layouts: pictures to tensors, feature maps to patches."""

import math

import torch

from edge.errors import UserError


def to_tensor(images) -> torch.Tensor:
    """uint8 [N, H, W, C] to float [N, C, H, W] in 0..1, channels last in memory (faster on a CPU)."""
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    return batch.to(torch.float32, memory_format=torch.channels_last) / 255


def flatten_patches(features: torch.Tensor) -> torch.Tensor:
    """Patch embeddings [N, D, h, w] as a list of vectors [N h w, D]."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def listed(outputs) -> list[torch.Tensor]:
    """The outputs of a network, which gives a tensor where there is but one."""
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def deviation(values: torch.Tensor, what: str) -> float:
    """The standard deviation, to divide by; UserError where it is 0 or not finite, as after a training that diverged.

    what: whose it is, for the message.
    """
    found = float(values.detach().std())
    if not (found > 0 and math.isfinite(1 / found)):
        raise diverged(f"{what} is constant or not finite")
    return found


def diverged(why: str) -> UserError:
    """What a training says that can't be used."""
    return UserError(f"training diverged: {why}; use a lower learning rate (distill.lr, compress.lr)")
