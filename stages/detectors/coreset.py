"""Greedy coreset (k-center) selection, which picks the patch embeddings of a memory bank, and k-means."""

from collections.abc import Callable

import torch

Map = Callable[[torch.Tensor], torch.Tensor]
DISTANCES = 1 << 26  # computed at once: 256 MB


def projection(width: int, dim: int, generator: torch.Generator) -> Map:
    """A random projection [N, width] -> [N, dim] that nearly keeps distances (Johnson-Lindenstrauss), as in PatchCore:
    the greedy coreset compares shorter vectors."""
    if dim >= width:
        return lambda features: features
    matrix = torch.randn(width, dim, generator=generator) / dim**0.5
    return lambda features: features @ matrix


def random_projection(features: torch.Tensor, dim: int, generator: torch.Generator) -> torch.Tensor:
    """The features [N, D] through a `projection`."""
    return projection(features.shape[1], dim, generator)(features)


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


class StreamedCoreset:
    """The greedy coreset of more points than there is room for: merge and reduce (Har-Peled & Mazumdar, STOC 2004).

    Points wait until there are `most` of them; a greedy coreset of `count` of these and of those kept so far is kept.
    What comes later and lies within the covering radius of the kept ones is dropped, being represented. Holds at most
    count + most points and one addition. Each reduction moves what represents a point by its covering radius at most;
    in tests the result covers within 1.5 times the radius of the greedy coreset of all points.
    """

    def __init__(self, count: int, most: int, project: Map, progress=lambda x: x):
        self.count, self.most, self.project, self.progress = count, most, project, progress
        self.kept: list[torch.Tensor] = []  # none, or one [count, D]
        self.waiting: list[torch.Tensor] = []
        self.radius = 0.0

    def add(self, points: torch.Tensor) -> None:
        """Takes points [N, D] in."""
        if self.kept:
            centres, parts = self.project(self.kept[0]), points.split(max(1, DISTANCES // self.count))
            points = torch.cat([p[nearest(self.project(p), centres)[0] > self.radius**2] for p in parts])
        self.waiting.append(points)
        if sum(map(len, self.waiting)) >= self.most:
            points = self.points()
            chosen, radii = greedy_coreset(self.project(points), self.count, progress=self.progress)
            self.kept, self.waiting, self.radius = [points[chosen]], [], radii[-1]

    def points(self) -> torch.Tensor:
        """What the coreset of all points is to be chosen from [N, D]: those kept, and those that wait."""
        return torch.cat([*self.kept, *self.waiting])


def nearest(
    points: torch.Tensor, centres: torch.Tensor, offsets: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distance [N] of the points [N, D] to the nearest of the centres [K, D], and the index of that one [N].

    With `offsets` [K], which are added to the squared distances, the smallest sum and its index.
    """
    norms = centres.square().sum(1) + (0 if offsets is None else offsets)
    minima = [(norms - 2 * chunk @ centres.t()).min(1) for chunk in points.split(2048)]  # 2048: bounds memory
    squared, index = (torch.cat(chunks) for chunks in zip(*minima, strict=True))
    squared += points.square().sum(1)
    return (squared.clamp(min=0) if offsets is None else squared), index


def k_means_step(points: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Each centre [K, D] moved to the mean of the points [N, D] nearest to it (one iteration of Lloyd's algorithm)."""
    index = nearest(points, centres)[1]
    total = torch.zeros_like(centres).index_add_(0, index, points)
    count = torch.bincount(index, minlength=len(centres)).unsqueeze(1)
    return torch.where(count > 0, total / count.clamp(min=1), centres)
