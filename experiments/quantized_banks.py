"""A memory bank in fewer bytes: what is left of its patch embeddings in float32, int8 or by product quantization."""

from collections.abc import Callable

import torch
from sklearn.cluster import KMeans

CENTROIDS = 256  # of a sub-vector: its code is one byte
SUB_VECTOR = 8  # dimensions of a sub-vector: a choice


def float32(bank: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The bank [K, D] as it is, and its bytes."""
    return bank, 4 * bank.numel()


def int8(bank: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The bank on an int8 grid of each dimension, symmetric as those of weights, and the bytes of both."""
    scale = (bank.abs().amax(0) / 127).clamp(min=1e-12)
    return torch.round(bank / scale) * scale, bank.numel() + 4 * bank.shape[1]


def product(bank: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Product quantization (Jégou et al., TPAMI 2011): k-means (scikit-learn) of each 8 dimensions, of whose centroids
    an embedding keeps the numbers; the bytes of these and of the centroids."""
    decoded, size = [], 0
    for part in bank.split(SUB_VECTOR, dim=1):
        count = min(CENTROIDS, len(torch.unique(part, dim=0)))
        found = KMeans(count, n_init=1, max_iter=25, random_state=0).fit(part.numpy())
        centroids = torch.from_numpy(found.cluster_centers_).to(bank)
        decoded.append(centroids[torch.from_numpy(found.labels_).long()])
        size += len(bank) + 4 * centroids.numel()
    return torch.cat(decoded, 1), size


FORMS: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, int]]] = {
    "float32": float32,
    "int8": int8,
    "product-quantized": product,
}
