"""Layouts: pictures to tensors, feature maps to patches."""

import torch


def to_tensor(images) -> torch.Tensor:
    """uint8 [N, S, S, C] to float [N, C, S, S] in 0..1, channels last in memory (faster on a CPU)."""
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    return batch.to(torch.float32, memory_format=torch.channels_last) / 255


def flatten_patches(features: torch.Tensor) -> torch.Tensor:
    """Patch embeddings [N, D, h, w] as a list of vectors [N h w, D]."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
