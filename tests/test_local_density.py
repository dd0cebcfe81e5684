"""How far from a memory bank a good patch is to be expected, against brute force."""

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances

from stages.detectors import local_density
from stages.detectors.local_density import PRIOR, expected_distances, to_other_pictures


def patches(n: int = 6, seed: int = 0) -> torch.Tensor:
    """Feature maps [n, 5, 3, 4]."""
    return torch.randn(n, 5, 3, 4, generator=torch.Generator().manual_seed(seed))


def lines(maps: torch.Tensor) -> np.ndarray:
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).double().numpy()


def by_hand(maps: torch.Tensor, bank: np.ndarray) -> np.ndarray:
    """The expected squared distances [K] of all patches, one by one."""
    points, per_picture = lines(maps), maps.shape[2] * maps.shape[3]
    between, to_bank = pairwise_distances(points, metric="sqeuclidean"), pairwise_distances(points, bank, "sqeuclidean")
    values = np.empty(len(points))
    for i in range(len(points)):
        others = [between[i, j] for j in range(len(points)) if j // per_picture != i // per_picture]
        values[i] = max([to_bank[i].min(), *([min(others)] if others else [])])
    nearest = to_bank.argmin(1)
    return np.array(
        [
            (values[nearest == k].sum() + PRIOR * values.mean()) / ((nearest == k).sum() + PRIOR)
            for k in range(len(bank))
        ]
    )


@pytest.mark.parametrize("n", [6, 1])
def test_against_brute_force(n):
    """Of a single picture there are no others: the distance to the bank remains."""
    maps, bank = patches(n), torch.randn(4, 5, generator=torch.Generator().manual_seed(9))
    np.testing.assert_allclose(expected_distances(maps, bank), by_hand(maps, bank.double().numpy()), rtol=1e-4)


def test_of_more_patches_than_the_sample_an_even_part_is_taken(monkeypatch):
    maps, bank = patches(40), torch.randn(3, 5, generator=torch.Generator().manual_seed(9))
    whole = expected_distances(maps, bank)
    monkeypatch.setattr(local_density, "SAMPLE", 240)
    part = expected_distances(maps, bank)
    assert not torch.equal(part, whole)
    np.testing.assert_allclose(part, whole, rtol=0.35)


def test_patches_of_the_same_picture_do_not_count():
    """Two copies of a patch are 0 apart, in two pictures; in one, the nearest is another picture's."""
    points = torch.tensor([[0.0], [0.0], [3.0], [7.0]])
    assert to_other_pictures(points, torch.tensor([0, 1, 2, 2])).tolist() == [0, 0, 9, 49]
    assert to_other_pictures(points, torch.tensor([0, 0, 2, 2])).tolist() == [9, 9, 9, 49]


def test_a_defect_among_dense_patches_stands_out_from_rare_good_ones():
    """As far from its entry as rare good patches are from theirs: only there is the distance unexpected."""
    generator = torch.Generator().manual_seed(1)
    dense, rare = torch.randn(30, 2, 2, 2, generator=generator) * 0.1, torch.randn(30, 2, 2, 2, generator=generator) * 2
    rare[:, 0] += 50
    bank = torch.tensor([[0.0, 0.0], [50.0, 0.0]])
    near_dense, near_rare = expected_distances(torch.cat([dense, rare], 3), bank).tolist()
    of_rare = (rare - bank[1].view(1, 2, 1, 1)).square().sum(1).mean()
    assert near_rare > 0.9 * of_rare > 40 * near_dense
