"""The backbone that is trained here: SimCLR's loss against a double loop."""

import math

import numpy as np
import pytest
import torch
from test_teacher import pictures, seeded

from stages.detectors.backbone import (
    FeatureExtractor,
    build,
    small_resnet_config,
)
from stages.graph.tensors import to_tensor
from stages.training import simclr

torch.set_num_threads(1)


def test_nt_xent_against_a_double_loop():
    a, b = torch.randn(6, 4, generator=seeded(1)), torch.randn(6, 4, generator=seeded(2))
    views = torch.cat([a, b]).double().numpy()
    losses = []
    for i in range(12):
        cosine = [views[i] @ views[k] / np.linalg.norm(views[i]) / np.linalg.norm(views[k]) for k in range(12)]
        others = sum(math.exp(cosine[k] / 0.2) for k in range(12) if k != i)
        losses.append(-math.log(math.exp(cosine[(i + 6) % 12] / 0.2) / others))
    assert simclr.nt_xent(a, b, 0.2).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_simclr_learns_and_repeats():
    images = to_tensor(pictures(6, 48)).contiguous()

    def losses() -> list[float]:
        torch.manual_seed(0)
        extractor, found = FeatureExtractor(build(small_resnet_config(), [0, 1]), "local_contrast"), []
        simclr.train(extractor, images, 24, 16, 0, lambda step, loss: found.append(loss))
        assert not extractor.training
        return found

    first = losses()
    assert len(first) == 24 and np.mean(first[-4:]) < 0.7 * np.mean(first[:4])
    assert losses() == first
