"""Coreset, k-means step and random projection against the whole distance matrix and scikit-learn."""

import itertools
import json

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch.profiler import ProfilerActivity, profile

from stages.detectors import coreset

torch.set_num_threads(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def brute_force_k_center(points: np.ndarray, count: int, start: int):
    """Greedy k-center with the whole distance matrix."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    chosen, radii = [start], []
    while True:
        cover = distances[:, chosen].min(axis=1)
        radii.append(cover.max())
        if len(chosen) == count:
            return chosen, radii
        chosen.append(int(cover.argmax()))


@pytest.mark.parametrize(("n", "dim", "count", "start"), [(60, 2, 12, 0), (200, 16, 30, 7), (25, 3, 25, 3)])
def test_coreset_against_the_whole_distance_matrix(n, dim, count, start):
    points = torch.randn(n, dim, generator=seeded(n)) + 3
    chosen, radii = coreset.greedy_coreset(points, count, start)
    expected, covering = brute_force_k_center(points.double().numpy(), count, start)
    assert chosen == expected
    assert radii == pytest.approx(covering, abs=5e-3)
    assert all(a >= b for a, b in itertools.pairwise(radii))


def test_coreset_covers_within_twice_the_best_radius():
    points = torch.randn(11, 2, generator=seeded(1))
    distances = torch.cdist(points, points)
    best = min(distances[:, list(c)].min(1).values.max() for c in itertools.combinations(range(11), 3))
    _, radii = coreset.greedy_coreset(points, 3)
    assert best - 1e-3 <= radii[-1] <= 2 * best + 1e-3


def peak_bytes(run, tmp_path) -> int:
    """The most memory that torch held at one time above what it held at first, temporaries included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    recorded.export_chrome_trace(str(tmp_path / "trace.json"))
    events = [e for e in json.loads((tmp_path / "trace.json").read_text())["traceEvents"] if e["name"] == "[memory]"]
    held = [e["args"]["Total Allocated"] for e in sorted(events, key=lambda e: e["ts"])]
    first = min(events, key=lambda e: e["ts"])["args"]
    return max(held) - (first["Total Allocated"] - first["Bytes"])


def test_coreset_memory_is_linear_in_the_number_of_points(tmp_path):
    few = torch.randn(1000, 16, generator=seeded())
    assert peak_bytes(lambda: torch.cdist(few, few).argmax(1), tmp_path) >= 4 * 1000**2, "the meter sees a matrix"
    points = torch.randn(20_000, 16, generator=seeded())
    used = peak_bytes(lambda: coreset.greedy_coreset(points, 20), tmp_path)
    assert 4 * 20_000 <= used <= 2 * points.numel() * 4, f"{used} bytes; a matrix would be {4 * 20_000**2}"


def clusters(count: int, dim: int, in_order: bool, seed: int) -> torch.Tensor:
    """Points of 60 clusters, the rarest of which hold a few of them: a random sample misses these."""
    generator = seeded(seed)
    centres, weights = torch.randn(60, dim, generator=generator) * 5, torch.rand(60, generator=generator) ** 6 + 1e-3
    of = torch.multinomial(weights, count, replacement=True, generator=generator)
    points = centres[of] + torch.randn(count, dim, generator=generator) * 0.3
    return points[of.argsort()] if in_order else points


def streamed(points: torch.Tensor, count: int, most: int) -> tuple[torch.Tensor, int]:
    """The coreset of points that come 256 at a time, and the most that were held at once."""
    stream, held = coreset.StreamedCoreset(count, most, lambda x: x), 0
    for part in points.split(256):
        stream.add(part)
        held = max(held, len(stream.points()))
    pool = stream.points()
    return pool[coreset.greedy_coreset(pool, count)[0]], held


def covering_radius(points: torch.Tensor, chosen: torch.Tensor) -> float:
    return float(torch.cdist(points.double(), chosen.double()).min(1).values.max())


@pytest.mark.parametrize("in_order", [False, True])  # neighbours in an index are much alike
@pytest.mark.parametrize(("dim", "count", "most"), [(8, 200, 1000), (8, 1000, 1000), (16, 300, 1500)])
def test_a_streamed_coreset_covers_nearly_as_one_of_all_points(dim, count, most, in_order):
    """A random sample of as many, and a greedy coreset of a random sample, which is what there was, leave out clusters.

    Where the coreset has all the room that there is (count = most), the sample was the whole bank.
    """
    points = clusters(10_000, dim, in_order, seed=count)
    chosen, held = streamed(points, count, most)
    best = covering_radius(points, points[coreset.greedy_coreset(points, count)[0]])
    sample = points[torch.randperm(len(points), generator=seeded(1))[:most]]
    sampled = covering_radius(points, sample[coreset.greedy_coreset(sample, count)[0]])
    found = covering_radius(points, chosen)
    assert len(chosen) == count and held <= count + most + 256
    assert found <= 1.6 * best < 4 * found < sampled
    assert torch.equal(streamed(points, count, most)[0], chosen)


def test_random_projection_keeps_distances_and_small_features():
    features = torch.randn(40, 512, generator=seeded(2))
    projected = coreset.random_projection(features, 256, seeded(3))
    ratio = torch.pdist(projected) / torch.pdist(features)
    assert projected.shape == (40, 256) and abs(ratio.mean() - 1) < 0.03 and ratio.std() < 0.1
    assert coreset.random_projection(features, 512, seeded()) is features


@pytest.mark.parametrize(("n", "dim", "count"), [(5000, 16, 300), (40, 3, 40)])
def test_k_means_step_against_scikit_learn(n, dim, count):
    points = torch.randn(n, dim, generator=seeded(4))
    centres = points[torch.randperm(n, generator=seeded(5))[:count]]
    expected = KMeans(count, init=centres.numpy(), n_init=1, max_iter=1).fit(points.numpy()).cluster_centers_
    np.testing.assert_allclose(coreset.k_means_step(points, centres), expected, atol=1e-5)


def test_a_centre_without_points_stays():
    centres = torch.tensor([[0.0, 0.0], [9.0, 9.0]])
    moved = coreset.k_means_step(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), centres)
    assert moved.tolist() == [[0.5, 0.5], [9.0, 9.0]]
