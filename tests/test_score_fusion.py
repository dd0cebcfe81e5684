"""Score fusion: the standard error against another implementation, the rule against scikit-learn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from students import pictures

from stages.detectors import score_fusion
from stages.graph.tensors import to_tensor
from stages.training import cutpaste

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("good", "bad", "expected"), [(200, 20, 0.06498283), (110, 110, 0.03282048), (20, 20, 0.07789072)]
)
def test_standard_error_against_another_implementation(good, bad, expected):
    """What the documentation of the R package auctestr prints for se_auc at an AUROC of 0.75."""
    assert score_fusion.standard_error(0.75, good, bad) == pytest.approx(expected, abs=5e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("good", "bad"), [(24, 100), (112, 112)])
def test_standard_error_against_a_simulation(good, bad):
    """Exponential scores, for which the formula is exact."""
    rng = np.random.default_rng(0)
    labels = np.arange(good + bad) >= good
    found = [
        roc_auc_score(labels, np.concatenate([rng.exponential(1, good), rng.exponential(4, bad)])) for _ in range(2000)
    ]
    assert score_fusion.standard_error(float(np.mean(found)), good, bad) == pytest.approx(np.std(found), rel=0.06)


def plain(count: int) -> np.ndarray:
    """Pictures so even that the edge of a pasted piece stands out."""
    return (pictures(count, 64, 1) // 10 + 115).astype(np.uint8)


class Body:
    """Two outputs, both the strongest edge of a region, each with as much noise as wanted."""

    def __init__(self, mask_noise: float, feature_noise: float):
        self.noise = mask_noise, feature_noise

    def __call__(self, images):
        generator = torch.Generator().manual_seed(int(images.sum()))
        edges = (images - F.avg_pool2d(images, 5, 1, 2, count_include_pad=False)).abs().mean(1, keepdim=True)
        found = []
        for side, noise in zip((8, 4), self.noise, strict=True):
            small = F.adaptive_max_pool2d(edges, side)
            found.append(small + noise * torch.randn(small.shape, generator=generator))
        return found


@pytest.mark.parametrize(("mask_noise", "feature_noise"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.02), (0.0, 0.0)])
def test_smallest_weight_within_one_standard_error(mask_noise, feature_noise):
    body, val = Body(mask_noise, feature_noise), plain(30)
    entries = torch.tensor([[0.0], [0.05]])
    found = score_fusion.choose_fusion_weight(body, entries, val, 3)
    bad = cutpaste.validation_defects(val, 3)
    aurocs = {}
    for weight in score_fusion.FUSION_WEIGHTS:
        scores, spread = [], None
        for images in (val, bad):
            mask, feature = (part.numpy() for part in body_in_parts(body, images))
            near = ((feature[..., None] - entries.numpy().reshape(-1)) ** 2).min(-1)
            spread = spread or (mask.std(ddof=1), near.std(ddof=1))
            near = F.interpolate(torch.from_numpy(near), scale_factor=2, mode="bilinear").numpy()
            joined = weight * mask / spread[0] + (1 - weight) * near / spread[1]
            scores += [ndimage.uniform_filter(one[0], 3, mode="nearest").max() for one in joined]
        aurocs[weight] = roc_auc_score(np.arange(len(scores)) >= len(val), scores)
    assert {float(k): v for k, v in found["val_auroc"].items()} == pytest.approx(aurocs, abs=1e-3)
    best = max(aurocs.values())
    enough = [w for w, a in aurocs.items() if a >= best - score_fusion.standard_error(best, len(val), len(bad))]
    assert found["weight"] == min(enough)


def body_in_parts(body, images):
    """As memory_bank.mask_and_embedding calls it: the noise depends on which pictures come together."""
    together = [body(to_tensor(images[i : i + 16])) for i in range(0, len(images), 16)]
    return [torch.cat(parts) for parts in zip(*together, strict=True)]


def test_a_mask_that_knows_gets_more_than_one_that_guesses():
    entries, val = torch.tensor([[0.0], [0.05]]), plain(30)
    found = [score_fusion.choose_fusion_weight(Body(*noise), entries, val, 3) for noise in ((0.0, 1.0), (1.0, 0.0))]
    knows, guesses = (one["weight"] for one in found)
    assert knows > guesses
