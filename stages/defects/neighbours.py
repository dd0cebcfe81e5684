"""Labelled defects among their neighbours: what type each would be told by those of other parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edge.defects.catalogue import NEAR
from edge.defects.nearest import nearest

NONE = -1  # the type of a defect without any neighbour


@dataclass(frozen=True)
class Way:
    """How a vector is made, and how many neighbours vote."""

    pooling: str
    dimensions: int
    k: int

    @property
    def key(self) -> tuple[str, int]:
        return self.pooling, self.dimensions


class Neighbours:
    """N labelled defects with their vectors under every way of making one.

    types: [N] numbers, `names` of them. parts: [N] numbers; no defect is a neighbour of one of its own part. vectors:
    unit vectors [N, D] by (pooling, dimensions).
    """

    def __init__(self, types: np.ndarray, names: Sequence[str], parts: np.ndarray, vectors: dict):
        self.types, self.names, self.parts, self.vectors = types, list(names), parts, vectors
        self._ordered: dict = {}

    def __len__(self) -> int:
        return len(self.types)

    @cached_property
    def everything(self) -> np.ndarray:
        return np.ones(len(self), bool)

    def with_parts(self, parts: np.ndarray) -> "Neighbours":
        """The same defects, divided into other parts."""
        return Neighbours(self.types, self.names, parts, self.vectors)

    def near(self, key: tuple[str, int], asked: np.ndarray, allowed: np.ndarray, k: int) -> tuple:
        """(indices [Q, k], distances [Q, k]) of the neighbours of the defects `asked` (indices) among those `allowed`
        (bool [N]) and of other parts, nearest first; NONE and infinity where there are fewer."""
        if key not in self._ordered:
            order, distances = nearest(self.vectors[key], self.vectors[key], len(self))
            self._ordered[key] = order.astype(np.int32), distances
        order, distances = (values[asked] for values in self._ordered[key])
        fits = allowed[order] & (self.parts[order] != self.parts[asked][:, None])
        first = np.argsort(~fits, axis=1, kind="stable")[:, :k]
        fits = np.take_along_axis(fits, first, 1)
        found, far = np.take_along_axis(order, first, 1), np.take_along_axis(distances, first, 1)
        return np.where(fits, found, NONE), np.where(fits, far, np.inf)

    def votes(self, indices: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """The type [Q] that the neighbours vote for, the nearer the more (edge.defects.catalogue.votes)."""
        shares = np.zeros((len(indices), len(self.names) + 1))  # the last one: nobody
        rows = np.arange(len(indices))
        for column, far in zip(indices.T, distances.T, strict=True):
            kinds = np.where(column == NONE, len(self.names), self.types[column])
            np.add.at(shares, (rows, kinds), np.where(np.isinf(far), 0, 1 / (far + NEAR)))
        best = shares[:, :-1].argmax(1)
        return np.where(np.isinf(distances[:, 0]), NONE, best)

    def tell(self, way: Way, asked: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(type [Q], distance of the nearest neighbour [Q]) of the defects `asked`."""
        indices, distances = self.near(way.key, asked, allowed, way.k)
        return self.votes(indices, distances), distances[:, 0]

    def choose(self, ways: Sequence[Way], among: np.ndarray, known: float) -> tuple[Way, float]:
        """The way with the highest macro-F1 by leave-one-part-out among the defects `among` (indices), of equals the
        first; and its limit: the distance that the share `known` of them does not exceed."""
        allowed = np.zeros(len(self), bool)
        allowed[among] = True
        most = max(way.k for way in ways)
        best, best_score, limit = ways[0], -1.0, 0.0
        for key in dict.fromkeys(way.key for way in ways):
            indices, distances = self.near(key, among, allowed, most)
            for way in (way for way in ways if way.key == key):
                told = self.votes(indices[:, : way.k], distances[:, : way.k])
                score = macro_f1(self.types[among], told)
                if score > best_score:
                    finite = distances[:, 0][np.isfinite(distances[:, 0])]
                    best, best_score = way, score
                    limit = float(np.quantile(finite, known)) if len(finite) else 0.0
        return best, limit


def f1_scores(types: np.ndarray, told: np.ndarray) -> dict[int, float]:
    """The F1 of each type that occurs."""
    found = {}
    for kind in np.unique(types).tolist():
        hits = int(((types == kind) & (told == kind)).sum())
        found[kind] = 2 * hits / (int((types == kind).sum()) + int((told == kind).sum()))
    return found


def macro_f1(types: np.ndarray, told: np.ndarray) -> float:
    """The mean F1 of the types that occur."""
    return float(np.mean(list(f1_scores(types, told).values())))
