"""Noise on features: where it is, how strong it is, and what the mask is to find, against plain numpy."""

import numpy as np
import pytest
import torch

from stages.training.feature_noise import FAINTEST, HIDDEN, noisy

torch.set_num_threads(1)
COUNT, SIDE = 40, 32


def features(channels: int = 5, deep: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    fine = torch.randn(COUNT, channels, SIDE, SIDE, generator=generator)
    return [fine, torch.randn(COUNT, deep, SIDE // 2, SIDE // 2, generator=generator)]


def ones(maps) -> list[torch.Tensor]:
    return [torch.ones(1, part.shape[1], 1, 1) for part in maps]


NOTHING = torch.zeros(COUNT, 1, SIDE, SIDE)


def changed(seed: int, areas=NOTHING):
    """The noise on fine and deep features, and the areas to find; as arrays."""
    maps = features()
    found, grown = noisy(maps, ones(maps), areas, seed)
    return *((a - b).numpy() for a, b in zip(found, maps, strict=True)), grown.numpy()


def test_noise_is_in_half_of_the_pictures_and_in_small_areas():
    with_noise, shares = [], []
    for seed in range(30):
        fine, _, areas = changed(seed)
        with_noise += [bool(one.any()) for one in fine]
        shares += [one.mean() for one in areas if one.any()]
    assert 0.44 < np.mean(with_noise) < 0.56  # 1200 pictures: four standard errors to each side
    assert 1 - HIDDEN[1] - 0.002 < min(shares) < 0.03 and 0.14 < max(shares) < 1 - HIDDEN[0] + 0.002


def test_noise_is_inside_the_areas_and_nowhere_else():
    fine, deep, areas = changed(3)
    inside = areas[:, 0] == 1
    assert set(np.unique(areas)) == {0, 1}
    for channel in range(fine.shape[1]):
        assert np.array_equal(fine[:, channel] != 0, inside)
    coarse = inside.reshape(COUNT, SIDE // 2, 2, SIDE // 2, 2).any((2, 4))
    for channel in range(deep.shape[1]):
        assert np.array_equal(deep[:, channel] != 0, coarse)


def test_features_of_one_size_have_noise_at_the_same_places():
    fine = features()[0]
    found, areas = noisy([fine, fine], ones([fine, fine]), NOTHING, 3)
    for part in found:
        assert torch.equal((part != fine).all(1, keepdim=True), areas == 1)


def test_areas_of_pasted_defects_stay_and_those_of_noise_join_them():
    pasted = (torch.rand(COUNT, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) < 0.1).float()
    before = pasted.clone()
    fine, _, areas = changed(5, pasted)
    assert np.array_equal(areas[:, 0] == 1, (pasted[:, 0].numpy() == 1) | (fine[:, 0] != 0))
    assert torch.equal(pasted, before) and areas.sum() > pasted.sum()


def test_equal_seeds_give_equal_noise_and_the_features_stay():
    maps = features()
    kept = [part.clone() for part in maps]
    first, again, other = (noisy(maps, ones(maps), NOTHING, seed) for seed in (7, 7, 8))
    for a, b, c in zip(first[0], again[0], other[0], strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(first[1], again[1]) and not torch.equal(first[1], other[1])
    assert all(torch.equal(a, b) for a, b in zip(maps, kept, strict=True))


def test_noise_is_as_strong_as_the_deviation_of_a_channel():
    """From FAINTEST to once it, drawn log-uniformly for each picture, the same for fine and deep features."""
    maps = features(64, 64)
    spread = [torch.logspace(-2, 2, part.shape[1]).view(1, -1, 1, 1) for part in maps]
    strengths = []
    for seed in range(12):
        found, areas = noisy(maps, spread, NOTHING, seed)
        for i in np.nonzero(areas.numpy().any((1, 2, 3)))[0]:
            pair = []
            for part, before, deviation in zip(found, maps, spread, strict=True):
                noise = ((part - before) / deviation)[i].double()
                where = noise.abs().amax(0) > 0
                low, high = noise[:32, where].std(), noise[32:, where].std()  # of small and of large deviations
                assert float(low / high) == pytest.approx(1, abs=0.4)
                pair.append(float(noise[:, where].std()))
            strengths.append(pair)
    fine, deep = np.array(strengths).T
    np.testing.assert_allclose(fine, deep, rtol=0.12)
    assert 0.95 * FAINTEST < fine.min() < 1.2 * FAINTEST and 0.85 < fine.max() < 1.05
    assert np.log(fine).mean() == pytest.approx(np.log(FAINTEST) / 2, abs=0.12)


def test_gradients_pass_unchanged():
    maps = [part.requires_grad_() for part in features()]
    found, _ = noisy(maps, ones(maps), NOTHING, 2)
    sum(part.sum() for part in found).backward()
    assert all((part.grad == 1).all() for part in maps)
