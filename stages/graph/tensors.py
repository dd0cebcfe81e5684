"""Between pictures, tensors and lists of patches."""

import torch


def to_tensor(images) -> torch.Tensor:
    """uint8 [N, S, S, 3] to float [N, 3, S, S] in 0..1, channels last in memory (faster on a CPU)."""
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    return batch.to(torch.float32, memory_format=torch.channels_last) / 255


def flatten_patches(features: torch.Tensor) -> torch.Tensor:
    """Features [N, D, h, w] as one per line: [N h w, D]."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
