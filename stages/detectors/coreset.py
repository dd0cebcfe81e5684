"""Greedy coreset (k-center) selection, which picks the patch embeddings of a memory bank, and k-means."""

import torch


def random_projection(features: torch.Tensor, dim: int, generator: torch.Generator) -> torch.Tensor:
    """Random projection [N, D] -> [N, dim] that nearly keeps distances (Johnson-Lindenstrauss), as in PatchCore: the
    greedy coreset compares shorter vectors."""
    if dim >= features.shape[1]:
        return features
    matrix = torch.randn(features.shape[1], dim, generator=generator) / dim**0.5
    return features @ matrix


def greedy_coreset(
    points: torch.Tensor, count: int, start: int = 0, progress=lambda x: x
) -> tuple[list[int], list[float]]:
    """Indices of `count` of the points [N, D], each the farthest from those chosen before, and after each choice the
    covering radius: the largest distance of a point to its nearest chosen one.

    Sener & Savarese, ICLR 2018, algorithm 1. Keeps one distance per point, never an N x N matrix.
    """
    norms = points.square().sum(1)
    nearest = torch.full((len(points),), float("inf"))
    chosen, radii = [start], []
    for _ in progress(range(count)):
        last = points[chosen[-1]]
        nearest = torch.minimum(nearest, (norms - 2 * (points @ last) + norms[chosen[-1]]).clamp_(min=0))
        nearest[chosen[-1]] = 0
        radius, index = nearest.max(0)
        radii.append(radius.sqrt().item())
        chosen.append(int(index))
    return chosen[:count], radii


def nearest(points: torch.Tensor, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distance [N] of the points [N, D] to the nearest of the centres [K, D], and the index of that one [N]."""
    norms = centres.square().sum(1)
    minima = [(norms - 2 * chunk @ centres.t()).min(1) for chunk in points.split(2048)]  # 2048: bounds memory
    squared, index = (torch.cat(chunks) for chunks in zip(*minima, strict=True))
    return (squared + points.square().sum(1)).clamp(min=0), index


def k_means_step(points: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Each centre [K, D] moved to the mean of the points [N, D] nearest to it (one iteration of Lloyd's algorithm)."""
    index = nearest(points, centres)[1]
    total = torch.zeros_like(centres).index_add_(0, index, points)
    count = torch.bincount(index, minlength=len(centres)).unsqueeze(1)
    return torch.where(count > 0, total / count.clamp(min=1), centres)
