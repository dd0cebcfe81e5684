"""The motion of a clip in the teacher's patch embeddings: flow against known shifts, pooling against loops, balance."""

from types import SimpleNamespace

import clips
import cv2
import numpy as np
import pytest
import torch
from conftest import one_line

from edge.errors import UserError
from stages.detectors import motion
from stages.detectors.base import Run
from stages.detectors.patchcore import PatchCore
from stages.detectors.registry import load
from stages.graph.tensors import to_tensor
from stages.training.torch_setup import prepare

SETTINGS = PatchCore.example()[0].__dict__
RUN = Run(0, "test", lambda *_, **__: None)


def texture(size: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (size, size)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2)
    return (128 + 50 * blurred / blurred.std()).clip(0, 255).astype(np.uint8)


def moving(count: int, speed: float, size: int = 64, frames: int = 4, seed: int = 0) -> np.ndarray:
    """Samples uint8 [count, size, size, frames] of the scene of tests/clips.py."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        shown = [picture[:, :, 0] for picture, _ in clips.frames(rng, size, speed)]
        found += [np.stack(shown[t - frames + 1 : t + 1], -1) for t in range(frames - 1, len(shown), 3)]
    return np.stack(found[:count])


@pytest.mark.parametrize("method", motion.METHODS)
@pytest.mark.parametrize(("lag", "by"), [(1, (3, -2)), (2, (2, 2)), (3, (-1, 0))])
def test_flow_is_how_far_things_moved_since_the_frame_that_lags(method, lag, by):
    still = texture(64)
    before = np.roll(still, (-by[1], -by[0]), (0, 1))  # now is before moved by (x, y)
    sample = np.stack([before if back >= lag else still for back in range(3, -1, -1)], -1)
    found = motion.flow(sample[None], method, lag)[0] * 64
    assert found.dtype == np.float32 and found.shape == (64, 64, 2)
    np.testing.assert_allclose(np.median(found[8:-8, 8:-8], (0, 1)), by, atol=0.25)


def test_pooling_is_means_and_the_largest_magnitude():
    field = np.random.default_rng(1).normal(size=(2, 2, 12, 18)).astype(np.float32)
    found = motion.pooled(torch.from_numpy(field), 4, 6).numpy()
    for n, y, x in np.ndindex(2, 4, 6):
        cell = field[n, :, 3 * y : 3 * y + 3, 3 * x : 3 * x + 3].reshape(2, -1)
        speed = np.hypot(*cell)
        np.testing.assert_allclose(found[n, :, y, x], [*cell.mean(1), speed.mean(), speed.max()], rtol=1e-5, atol=1e-6)


def fitted(train, **changes):
    prepare(0, 1)
    return PatchCore.fit(train, train[:4], SimpleNamespace(**(SETTINGS | changes)), RUN)


@pytest.fixture(scope="module")
def teacher():
    return fitted(moving(24, 1.5), motion="dis", motion_lag=2)


def test_appearance_and_motion_weigh_the_same(teacher):
    with torch.inference_mode():
        maps = teacher.extractor(to_tensor(moving(24, 1.5)))
    assert [part.shape[1] for part in maps][-1] == 4
    spread = [sum(float(channel.var(correction=0)) for channel in part.transpose(0, 1)) for part in maps]
    assert spread[-1] == pytest.approx(1, rel=0.02)
    assert sum(spread[:-1]) == pytest.approx(1, rel=0.35)  # enlarging the coarser maps takes some of theirs


def test_only_the_last_frame_has_an_appearance(teacher):
    samples = moving(2, 1.5, seed=5)
    others = samples.copy()
    others[..., :-1] = others[..., -1:]
    with torch.inference_mode():
        *first, moved = teacher.extractor(to_tensor(samples))
        *again, still = teacher.extractor(to_tensor(others))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert moved.abs().max() > 0.1 and still.abs().max() < 1e-3


def test_what_is_fast_is_far_from_the_bank_with_motion_alone(teacher):
    """In frames that look the same: the anomaly is the frame before."""
    slow, fast = moving(8, 1.5, seed=7), moving(8, 7.0, seed=7)
    blind = fitted(moving(24, 1.5), motion="none", motion_lag=2)

    def ratio(detector):
        now = np.concatenate([slow, fast])
        scores = _maps(detector, now).amax((1, 2, 3)).numpy()
        return np.median(scores[8:]) / np.median(scores[:8])

    assert ratio(teacher) > 1.5 > ratio(blind)


def test_a_saved_teacher_has_its_motion(teacher, tmp_path):
    teacher.save(tmp_path)
    back = load(tmp_path)
    assert isinstance(back.extractor, motion.MotionExtractor) and back.extractor.balance == teacher.extractor.balance
    samples = moving(3, 4.0, seed=9)
    torch.testing.assert_close(_maps(back, samples), _maps(teacher, samples))


def _maps(detector, samples):
    with torch.inference_mode():
        return detector(to_tensor(samples))[0]


def test_what_cannot_be_is_one_line(teacher):
    with pytest.raises(UserError, match=r"teacher\.motion: OpenCV's optical flow can't be exported") as caught:
        teacher.export()
    one_line(caught)
    with pytest.raises(UserError, match=r"teacher\.motion = dis: needs clips whose frames reach 4 back") as caught:
        fitted(moving(8, 1.5), motion="dis", motion_lag=4)
    one_line(caught)
