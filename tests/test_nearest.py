"""Brute-force neighbours against scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from edge.defects import nearest


@pytest.mark.parametrize("chunk", [1, 500, nearest.CHUNK])
def test_neighbours_are_those_of_scikit_learn(monkeypatch, chunk):
    monkeypatch.setattr(nearest, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(200, 16)).astype(np.float32), rng.normal(size=(30, 16)).astype(np.float32)
    indices, distances = nearest.nearest(vectors, queries, 7)
    expected, rows = NearestNeighbors(n_neighbors=7, algorithm="brute").fit(vectors).kneighbors(queries)
    assert np.array_equal(indices, rows)
    assert np.allclose(distances, expected, atol=1e-4)


def test_equal_points_keep_their_order_and_fewer_points_than_k_are_all_there_are():
    indices, distances = nearest.nearest(np.ones((3, 4)), np.ones((1, 4)), 5)
    assert indices.tolist() == [[0, 1, 2]] and distances.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("k", [1, 2, 5, 59, 60])
def test_of_equal_points_at_the_last_place_those_of_the_first_rows_are_neighbours(k):
    """Small whole numbers, whose distances are exact, in a plane: at every place many points are equally far."""
    rng = np.random.default_rng(0)
    vectors, queries = rng.integers(-2, 3, (60, 2)), rng.integers(-2, 3, (25, 2))
    squared = ((vectors[None] - queries[:, None]) ** 2).sum(2)
    expected = [sorted(range(60), key=lambda row: (far[row], row))[:k] for far in squared]
    indices, distances = nearest.nearest(vectors, queries, k)
    assert indices.tolist() == expected
    assert np.array_equal(distances, np.sqrt(np.take_along_axis(squared, indices, 1)).astype(np.float32))


def test_no_point_has_no_neighbour():
    indices, distances = nearest.nearest(np.empty((0, 4)), np.ones((2, 4)), 3)
    assert indices.shape == distances.shape == (2, 0)
