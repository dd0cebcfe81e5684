"""Structural similarity against scipy, window by window."""

import numpy as np
import pytest
import torch
from scipy import signal

from stages.training.ssim import ssim, window


def by_definition(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Wang et al., eq. 13, of images [H, W] in 0..1: a weighted sum over every window, in double precision."""
    line = signal.windows.gaussian(11, 1.5)
    weights = np.outer(line, line) / line.sum() ** 2
    found = np.empty((a.shape[0] - 10, a.shape[1] - 10))
    for y, x in np.ndindex(found.shape):
        p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
        mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
        var_p, var_q = (weights * (p - mean_p) ** 2).sum(), (weights * (q - mean_q) ** 2).sum()
        covariance = (weights * (p - mean_p) * (q - mean_q)).sum()
        found[y, x] = (2 * mean_p * mean_q + 1e-4) * (2 * covariance + 9e-4)
        found[y, x] /= (mean_p**2 + mean_q**2 + 1e-4) * (var_p + var_q + 9e-4)
    return found


def test_it_is_the_published_formula_channel_by_channel():
    rng = np.random.default_rng(0)
    a = rng.random((2, 3, 24, 19))
    b = np.clip(a + rng.normal(0, 0.2, a.shape), 0, 1)
    found = ssim(torch.from_numpy(a), torch.from_numpy(b))
    for i, c in np.ndindex(2, 3):
        np.testing.assert_allclose(found[i, c].numpy(), by_definition(a[i, c], b[i, c]), atol=1e-6)


def test_equal_images_are_alike_and_inverted_ones_are_not():
    a = torch.from_numpy(np.random.default_rng(1).random((1, 3, 16, 16))).float()
    torch.testing.assert_close(ssim(a, a), torch.ones(1, 3, 6, 6))
    assert ssim(a, 1 - a).mean() < 0


def test_flat_images_differ_by_their_light_alone():
    """Without variance the second factor is 1, and the first is known."""
    found = ssim(torch.full((1, 1, 11, 11), 0.2), torch.full((1, 1, 11, 11), 0.8))
    assert found.item() == pytest.approx((2 * 0.16 + 1e-4) / (0.04 + 0.64 + 1e-4), abs=1e-4)


def test_the_weights_of_the_window_are_one():
    assert window().sum().item() == pytest.approx(1, abs=1e-6)
