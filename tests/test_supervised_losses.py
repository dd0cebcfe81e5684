"""What a supervised detector learns from: the losses of pictures and of places, oversampling, augmentation, masks."""

import cv2
import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from students import pictures

from edge.geometry import Geometry
from stages.common.dataset import Item
from stages.common.masks import load_masks
from stages.training.augment import augmented, flipped, oversampled
from stages.training.focal import class_balance, focal_loss, marked_loss, smooth_maximum


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 5.0])
def test_the_focal_loss_is_its_closed_form(gamma):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 4, 200), rng.integers(0, 2, 200)
    p = 1 / (1 + np.exp(-logits))
    wanted = np.where(labels == 1, 0.7 * (1 - p) ** gamma * -np.log(p), 0.3 * p**gamma * -np.log(1 - p)).mean()
    found = focal_loss(torch.tensor(logits), torch.tensor(labels), 0.7, gamma)
    assert found.item() == pytest.approx(wanted, rel=1e-9)
    if gamma == 0:
        cross = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(labels * 1.0))
        assert focal_loss(torch.tensor(logits), torch.tensor(labels), 0.5, 0).item() == pytest.approx(cross.item() / 2)
    extreme = torch.tensor([1e4, -1e4], requires_grad=True)
    focal_loss(extreme, torch.tensor([0, 1]), 0.7, gamma).backward()
    assert torch.isfinite(extreme.grad).all()


def test_alpha_makes_both_classes_weigh_the_same():
    alpha = class_balance(648, 267)
    assert alpha == pytest.approx(648 / 915) and 648 * (1 - alpha) == pytest.approx(267 * alpha)


def test_the_smooth_maximum_is_below_the_maximum_by_what_it_says():
    logits = torch.randn(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 3
    found, flat = smooth_maximum(logits), logits.flatten(1).double().numpy()
    np.testing.assert_allclose(found, (logsumexp(10 * flat, 1) - np.log(1024)) / 10, rtol=1e-5)
    assert ((flat.max(1) - found.numpy() >= 0) & (flat.max(1) - found.numpy() < 0.7)).all()


def test_oversampling_by_hand():
    assert oversampled(10, 3, 0.7) == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2)]
    assert oversampled(10, 3, 0.0) == [(0, 0), (1, 0), (2, 0)], "never fewer than there are"
    assert len(oversampled(648, 267, 0.5)) == 324 and len(oversampled(10, 30, 1.0)) == 30
    assert oversampled(9, 2, 1.0)[-1] == (0, 0), "after four flips it begins anew"


def test_flips_are_those_of_numpy():
    sample = pictures(1, 16, 0)[0]
    wanted = sample, sample[:, ::-1], sample[::-1], sample[::-1, ::-1]
    assert all(np.array_equal(flipped(sample, i), one) for i, one in enumerate(wanted))


@pytest.mark.parametrize("channels", [3, 5])
def test_augmentation_keeps_the_picture_but_for_what_it_says(channels):
    sample, none = np.repeat(pictures(1, 48, 1)[0][:, :, :1], channels, 2), np.zeros((48, 48), bool)
    for seed in range(8):
        still, _ = augmented(np.random.default_rng(seed), sample, none, 0.0, 0.0, 0.0)
        assert any(np.array_equal(still, flipped(sample, k)) for k in range(4)), "only a flip is left"
        moved, mask = augmented(np.random.default_rng(seed), sample, none, 20.0, 0.2, 0.0)
        assert mask.shape == none.shape and not mask.any() and moved.shape == sample.shape and moved.dtype == np.uint8
        assert abs(moved.mean() - sample.mean()) < 12, "mirrored borders: no black corners"
        assert np.array_equal(moved, augmented(np.random.default_rng(seed), sample, none, 20.0, 0.2, 0.0)[0])
    long = np.tile(sample, (1, 2, 1))
    turned = augmented(np.random.default_rng(3), long, np.tile(none, 2), 0, 0, 0)[0]
    assert any(np.array_equal(turned, flipped(long, k)) for k in range(4))
    means = [augmented(np.random.default_rng(s), sample, none, 0, 0, 0.3)[0].mean() / sample.mean() for s in range(40)]
    assert 0.65 < min(means) < 0.85 and 1.15 < max(means) < 1.35


def test_a_mask_moves_with_its_picture():
    mask = np.zeros((48, 64), bool)
    mask[10:22, 30:44] = True
    sample = np.repeat(mask[:, :, None] * np.uint8(255), 3, 2)
    for seed in range(12):
        moved, marked = augmented(np.random.default_rng(seed), sample, mask, 30.0, 0.2, 0.0)
        assert marked.dtype == bool and marked.any()
        share = moved[:, :, 0] / 255
        certain = abs(share - 0.3) > 0.03
        assert np.array_equal(marked[certain], share[certain] > 0.3) and certain.mean() > 0.97


def test_the_loss_of_places_is_its_closed_form():
    rng = np.random.default_rng(0)
    logits, areas = rng.normal(0, 3, (3, 1, 4, 5)), rng.integers(0, 2, (3, 1, 4, 5))
    known = np.array([True, False, True])
    p = 1 / (1 + np.exp(-logits[known]))
    bad = ((1 - p) ** 2 * -np.log(p))[areas[known] == 1].mean()
    good = (p**2 * -np.log(1 - p))[areas[known] == 0].mean()
    found = marked_loss(torch.tensor(logits), torch.tensor(areas), torch.tensor(known), 2.0)
    assert found.item() == pytest.approx((bad + good) / 2, rel=1e-9)
    nothing = marked_loss(torch.tensor(logits), torch.zeros(3, 1, 4, 5), torch.zeros(3, dtype=torch.bool), 2.0)
    assert nothing.item() == 0, "a batch in which nothing is marked"


def test_masks_lie_where_the_samples_have_them(tmp_path):
    """Letterboxed: what lies beyond the picture mirrors it, mask and all; a thin scratch is kept."""
    mask = np.zeros((100, 50), np.uint8)
    mask[20, 5:45] = mask[95:, :10] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    items = [Item(f"{i}.png", "train", 1, "scratch", file, "", "") for i, file in enumerate(["mask.png", ""])]
    found = load_masks(tmp_path, items, Geometry(32, 32, "letterbox"))
    assert found.shape == (2, 32, 32) and found.dtype == bool and not found[1].any()
    assert found[0][6, 2:13].all(), "one row of a hundred"
    assert found[0][31, :3].all() and np.array_equal(found[0][:, 16:], found[0][:, :16][:, ::-1])
