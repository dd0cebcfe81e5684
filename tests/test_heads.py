"""The choice made on validation pictures: how the student's heads are joined, and the synthetic defects it sees."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from stages.distill.heads import fuse
from stages.networks import cutpaste
from stages.networks.batchnorm import recalibrate
from stages.networks.patchcore import to_tensor
from stages.networks.student import Student, architecture

torch.set_num_threads(1)


def pictures(count: int, size: int) -> np.ndarray:
    """Smooth random pictures, uint8 [count, size, size, 3]."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(count, size, size, 3)), (0, 2, 2, 0))
    return (np.clip(noise / noise.std() * 0.2 + 0.5, 0, 1) * 255).astype(np.uint8)


def test_heads_are_joined_as_validation_says():
    """Against scores computed from the two heads by hand, for every pair of shares."""
    torch.manual_seed(0)
    student = Student(architecture(0.25))
    recalibrate(student, to_tensor(pictures(4, 64)))
    good = pictures(12, 64)
    bad = cutpaste.validation_defects(good, 30, 1)
    fused, choice = fuse(student, good, bad, {"map": 1.0, "mask": 0.5})
    with torch.inference_mode():
        first, second = (torch.cat([student(to_tensor(x))[k] for x in (good, bad)])[:, 0].numpy() for k in (0, 1))
    labels = np.r_[np.zeros(12), np.ones(30)]
    assert len(choice["auroc"]) == 7

    def joined(a, b):
        parts = [(h - h[:12].mean()) / h[:12].std(ddof=1) * share for h, share in ((first, a), (second, b))]
        return sum(parts)

    def score(one):
        windows = np.pad(one, 1, constant_values=np.nan)
        return max(np.nanmean(windows[i : i + 3, j : j + 3]) for i in range(8) for j in range(8))

    for shares, auroc in choice["auroc"].items():
        a, b = map(int, shares.split(":"))
        assert auroc == pytest.approx(roc_auc_score(labels, [score(m) for m in joined(a, b)]), abs=0.006), shares
    assert max(choice["auroc"].values()) == choice["auroc"]["{}:{}".format(*choice["chosen"])]
    with torch.inference_mode():
        found = fused.eval()(to_tensor(bad))[:, 0].numpy()
    np.testing.assert_allclose(found, joined(*choice["chosen"])[12:], atol=2e-3 * np.abs(found).max())
    assert set(fuse(student, good, bad, {"map": 1.0, "mask": 0.0})[1]["auroc"]) == {"1:0"}


def test_cut_paste_changes_one_place_and_repeats():
    good = pictures(4, 96)
    changed = []
    for seed in range(40):
        image = good[seed % 4]
        found = cutpaste.cut_paste(np.random.default_rng(seed), image)
        assert found.shape == image.shape and found.dtype == np.uint8
        assert np.array_equal(found, cutpaste.cut_paste(np.random.default_rng(seed), image))
        ys, xs = np.nonzero((found != image).any(axis=2))
        changed.append(len(ys) / 96**2)
        if len(ys):
            assert (np.ptp(ys) + 1) * (np.ptp(xs) + 1) <= 0.35 * 96**2
    assert 0.002 < np.median(changed) < 0.1 and np.mean(np.array(changed) > 0) > 0.9
    first = cutpaste.validation_defects(good, 6, 3)
    assert np.array_equal(first, cutpaste.validation_defects(good, 6, 3)) and len(first) == 6
    assert not np.array_equal(first, cutpaste.validation_defects(good, 6, 4))
