"""Synthetic defects of clips: how fast they move, where they are, what counts as good; pictures keep their own."""

import cv2
import numpy as np
import pytest
from students import pictures
from test_motion import moving, texture

from stages.training import video_defects
from stages.training.synthetic_defects import add_defect, training_pool, vary
from stages.training.validation_defects import COUNT, validation_defects
from stages.training.validation_video import FAMILIES

SIZE, FRAMES = 64, 6
GOOD = moving(12, 1.5, SIZE, FRAMES)
BLACK = np.zeros((SIZE, SIZE, FRAMES), np.uint8)


def panned(speed: float) -> np.ndarray:
    """Samples in which a texture moves to the right at so many pixels a frame."""
    large = texture(SIZE + 64)
    shift = [np.float32([[1, 0, speed * t - 32], [0, 1, -32]]) for t in range(FRAMES)]
    frames = [cv2.warpAffine(large, matrix, (SIZE, SIZE)) for matrix in shift]
    return np.stack([np.stack(frames, -1)] * 3)


@pytest.mark.parametrize("speed", [0.7, 2.0, 3.0])
def test_the_usual_speed_is_measured(speed):
    assert video_defects.usual_speed(panned(speed)) == pytest.approx(speed, rel=0.15, abs=0.1)


def test_where_nothing_moves_the_usual_speed_is_the_slowest():
    still = np.repeat(texture(SIZE)[None, :, :, None], FRAMES, 3)
    assert video_defects.usual_speed(still) == video_defects.SLOWEST * SIZE


def middles(sample: np.ndarray) -> np.ndarray:
    """The middle of what is bright in each frame that it is whole in; y of it does not matter here."""
    found = []
    for t in range(sample.shape[2]):
        bright = sample[:, :, t] > 100
        cut = bright[[0, -1]].any() or bright[:, [0, -1]].any()
        found.append([np.nan] * 2 if cut or not bright.any() else np.argwhere(bright).mean(0))
    return np.array(found)


def speeds(make, speed: float) -> np.ndarray:
    """Of what a function pastes into black samples from a bright donor, in pixels a frame."""
    bright, found = np.full_like(BLACK, 220), []
    for seed in range(60):
        sample = BLACK.copy()
        make(np.random.default_rng(seed), sample, bright, speed)
        found.append(np.linalg.norm(np.diff(middles(sample), axis=0), axis=1))
    found = np.concatenate(found)
    return found[np.isfinite(found)]


def test_a_mover_is_faster_than_usual_and_a_decoy_is_not():
    low, high = np.array(video_defects.FAST) * 1.5
    fast = speeds(video_defects.mover, 1.5)
    assert len(fast) > 50 and fast.min() > low - 0.35 and fast.max() < high + 0.35
    assert np.quantile(speeds(video_defects.decoy, 1.5), 0.95) < 1.5 * video_defects.USUAL[1] + 0.35


@pytest.mark.parametrize("defect", video_defects.DEFECTS)
def test_a_defect_is_where_the_last_frame_shows_it(defect):
    seen = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sample = GOOD[seed % 12].copy()
        mask = defect(rng, sample, GOOD[(seed + 5) % 12], 1.5)
        assert mask.shape == (SIZE, SIZE) and mask.dtype == bool and sample.dtype == np.uint8
        changed = np.abs(sample.astype(int) - GOOD[seed % 12]) > video_defects.CHANGED
        if not mask.any():
            continue
        seen += bool(changed[mask].any())  # what is as grey as what it covers does not show
        # nothing changed in the last frame beyond the mask and its soft seam; a stutter leaves the last frame alone
        near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) > 0
        assert not (changed[:, :, -1] & ~near).any()
        if defect is video_defects.stutter:
            assert not changed[:, :, -1].any()
    assert seen > 10


def test_a_pool_of_clips_has_defects_in_every_second_sample():
    samples, masks = training_pool(GOOD, 40, 3)
    again, other = training_pool(GOOD, 40, 3), training_pool(GOOD, 40, 4)
    assert np.array_equal(samples, again[0]) and np.array_equal(masks, again[1])
    assert not np.array_equal(samples, other[0])
    assert not masks[::2].any() and masks[1::2].any((1, 2)).mean() > 0.9
    motion = np.abs(np.diff(samples.astype(int), axis=3)).max((1, 2))  # from frame to frame
    assert (motion[1::2].max(1) > video_defects.CHANGED).all()


def test_a_defect_that_does_not_show_is_drawn_again():
    """Into black, from black, only foreign things show."""
    for seed in range(20):
        found, mask = video_defects.add_video_defect(np.random.default_rng(seed), BLACK, BLACK, 1.5)
        assert mask.sum() >= 8 and (found > video_defects.CHANGED).any(2)[mask].mean() > 0.3


def test_still_clips_are_among_the_good_ones():
    samples, masks = training_pool(GOOD, 200, 0)
    still = (samples == samples[..., :1]).all((1, 2, 3))
    assert 2 <= still[::2].sum() <= 20 and not masks[still].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_keep_their_defects(channels):
    """As they were before clips had their own, drawn one by one."""
    images = pictures(5, SIZE, 1)[..., :channels]
    samples, masks = training_pool(images, 9, 2, 1)
    for i in range(9):
        rng = np.random.default_rng([2, 1, i])
        wanted, mask = vary(rng, images[rng.integers(5)]), np.zeros((SIZE, SIZE), bool)
        if i % 2:
            wanted, mask = add_defect(rng, wanted, images[rng.integers(5)])
        assert np.array_equal(samples[i], wanted) and np.array_equal(masks[i], mask)


def test_validation_has_other_families_and_each_shows():
    found = validation_defects(GOOD, 1)
    assert found.keys() == FAMILIES.keys()
    assert not {f.__name__ for f in video_defects.DEFECTS} & found.keys()
    for name, samples in found.items():
        assert samples.shape == (COUNT, SIZE, SIZE, FRAMES) and samples.dtype == np.uint8
        nearest = [np.abs(sample.astype(int) - GOOD).max(3).reshape(12, -1) for sample in samples]
        least = [min((away > video_defects.CHANGED).sum(1)) for away in nearest]
        assert np.median(least) >= 12, name
    again = validation_defects(GOOD, 1)
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_only_the_order_of_frames_changes_in_replayed_families():
    """Every pixel of them is one that the region had at some time."""
    for name in ("hurry", "stumble"):
        for seed in range(10):
            changed = FAMILIES[name](np.random.default_rng(seed), GOOD[0], 1.5).astype(int)
            low, high = GOOD[0].min(2, keepdims=True) - 1, GOOD[0].max(2, keepdims=True) + 1
            assert ((changed >= low.astype(int)) & (changed <= high.astype(int))).all()
