"""Exact nearest neighbours by brute force: what a device needs, and the reference for every index."""

from __future__ import annotations

import numpy as np

CHUNK = 4_000_000  # distances held at one time


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(indices int64 [Q, k], Euclidean distances float32 [Q, k]), nearest first, of the `k` (all, where there are
    fewer) rows of `vectors` [N, D] nearest to each of `queries` [Q, D]; equal distances in the order of the rows."""
    k = min(k, len(vectors))
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k), np.float32)
    points = np.asarray(vectors, np.float32)
    lengths = np.einsum("nd,nd->n", points, points, dtype=np.float64)
    step = max(1, CHUNK // max(1, len(points)))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        part = np.asarray(queries[rows], np.float32)
        squared = lengths - 2.0 * (part @ points.T).astype(np.float64)
        squared += np.einsum("qd,qd->q", part, part, dtype=np.float64)[:, None]
        order = _first(squared, k)
        indices[rows] = order
        distances[rows] = np.sqrt(np.maximum(np.take_along_axis(squared, order, 1), 0.0))
    return indices, distances


def _first(values: np.ndarray, k: int) -> np.ndarray:
    """The columns [Q, k] of the `k` smallest of each row of `values` [Q, N], in the order of a stable sort, which only
    those pass through that are not larger than the k-th."""
    if k in (0, values.shape[1]):
        return np.argsort(values, axis=1, kind="stable")[:, :k]
    order = np.empty((len(values), k), np.int64)
    for row, last, found in zip(values, np.partition(values, k - 1, axis=1)[:, k - 1], order):  # noqa: B905
        near = np.flatnonzero(~(row > last))  # (of nan, all)
        found[:] = near[np.argsort(row[near], kind="stable")[:k]]
    return order
