"""The families of synthetic defects that validation uses: where they are, how strong, and their AUROC."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from students import pictures

from stages.training.cutpaste import cut_paste
from stages.training.validation_defects import COUNT, FAMILIES, family_aurocs, validation_defects

SIZE = 96
GOOD = pictures(6, SIZE, 1) // 2 + 64  # far from black and white, so that nothing is clipped
names = pytest.mark.parametrize("name", FAMILIES)


def made(name: str, image: np.ndarray, contrast: float, seed: int) -> np.ndarray:
    return np.asarray(FAMILIES[name](np.random.default_rng(seed), image, contrast), np.float64)


@names
def test_a_defect_is_small_and_nearly_always_there(name):
    shares = []
    for found in validation_defects(GOOD, 3)[name]:
        different = [(found != image).any(2) for image in GOOD]
        mask = min(different, key=np.sum)  # of the picture that it was made of
        shares.append(mask.mean())
        if mask.any():
            rows, columns = np.nonzero(mask)
            assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) <= 0.4 * SIZE**2
    assert max(shares) < 0.2 and np.mean(np.array(shares) > 0) >= 0.9


@names
def test_more_contrast_is_a_stronger_defect_at_the_same_place(name):
    for seed in range(12):
        changes = [np.abs(made(name, GOOD[0], contrast, seed) - GOOD[0]) for contrast in (4, 20, 100)]
        sums = [change.sum() for change in changes]
        if name == "cutpaste":  # which takes no contrast
            assert sums[0] == sums[1] == sums[2]
            continue
        assert 0 < sums[0] < sums[1] < sums[2]
        np.testing.assert_allclose(changes[2], changes[0] * 25, rtol=1e-6, atol=1e-6)
        assert 0.2 * 100 < changes[2].max() < 5 * 100, "in grey levels"


def test_contrasts_are_drawn_from_faint_to_strong():
    """The peaks of spots, which are one and a half times the contrast, span a factor of ten and more."""
    peaks = []
    for found in validation_defects(GOOD, 0)["spot"]:
        peaks.append(min(np.abs(found.astype(int) - image).max() for image in GOOD))
    assert min(peaks) < 12 and max(peaks) > 90 and 12 < np.median(peaks) < 90


def test_samples_are_deterministic_and_depend_on_the_seed():
    kept = GOOD.copy()
    first, again, other = validation_defects(GOOD, 5), validation_defects(GOOD, 5), validation_defects(GOOD, 6)
    assert list(first) == list(FAMILIES) == ["spot", "tint", "crack", "grain", "cutpaste"]
    for name, samples in first.items():
        assert samples.shape == (COUNT, SIZE, SIZE, 3) and samples.dtype == np.uint8
        assert np.array_equal(samples, again[name]) and not np.array_equal(samples, other[name])
        assert len(np.unique(samples, axis=0)) == COUNT
    assert np.array_equal(GOOD, kept)


@names
def test_every_good_picture_is_used_about_equally(name):
    sources = [
        int(np.argmin([(found != image).sum() for image in GOOD])) for found in validation_defects(GOOD, 2)[name]
    ]
    counts = np.bincount(sources, minlength=len(GOOD))
    assert counts.max() - counts.min() <= 1


@names
def test_grey_stays_grey(name):
    """Pictures of three equal channels; a colour that no camera gives would be found by that alone."""
    grey = np.repeat(GOOD[..., :1], 3, axis=3)
    found = validation_defects(grey, 1)[name]
    assert not np.ptp(found.astype(int), axis=3).any()


def test_a_stain_on_a_coloured_picture_has_a_colour():
    """Some channels become brighter, others darker: the sum stays."""
    coloured = GOOD.copy()
    coloured[..., 0] += 40
    for seed in range(10):
        change = made("tint", coloured[0], 50, seed) - coloured[0]
        assert np.abs(change.sum(2)).max() < 1e-6 * np.abs(change).max() and np.ptp(change, axis=2).max() > 40


@names
@pytest.mark.parametrize("channels", [1, 2])  # of four or more it is a clip: test_video_defects.py
def test_samples_of_any_number_of_channels_work(name, channels):
    frames = np.concatenate([GOOD] * 2, axis=3)[..., :channels]
    found = validation_defects(frames, 1)[name]
    assert found.shape == (COUNT, SIZE, SIZE, channels) and found.dtype == np.uint8
    nearest = [min((one != image).mean() for image in frames) for one in found]
    assert np.mean(np.array(nearest) > 0) >= 0.9 and max(nearest) < 0.2


@names
def test_the_smallest_and_single_pictures_work(name):
    found = validation_defects(pictures(1, 32, 1), 0)[name]
    assert found.shape == (COUNT, 32, 32, 3)


def test_cut_paste_changes_one_place_and_repeats():
    changed = []
    for seed in range(40):
        image = GOOD[seed % len(GOOD)]
        found = cut_paste(np.random.default_rng(seed), image)
        assert found.shape == image.shape and found.dtype == np.uint8
        assert np.array_equal(found, cut_paste(np.random.default_rng(seed), image))
        ys, xs = np.nonzero((found != image).any(axis=2))
        changed.append(len(ys) / SIZE**2)
        if len(ys):
            assert (np.ptp(ys) + 1) * (np.ptp(xs) + 1) <= 0.35 * SIZE**2
    assert 0.002 < np.median(changed) < 0.1 and np.mean(np.array(changed) > 0) > 0.9


def test_aurocs_of_families_against_scikit_learn():
    rng = np.random.default_rng(0)
    good = rng.normal(size=30).round(1)
    defects = {name: rng.normal(shift, 1, 40).round(1) for name, shift in (("a", 0.0), ("b", 0.7), ("c", -1), ("d", 9))}
    found = family_aurocs(good, defects)
    expected = {
        name: roc_auc_score([0] * 30 + [1] * 40, np.concatenate([good, scores])) for name, scores in defects.items()
    }
    assert found == pytest.approx(expected | {"mean": np.mean(list(expected.values()))})
    assert found["d"] == 1 and found["c"] < 0.5
