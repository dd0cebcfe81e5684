"""PaDiM against scipy's Mahalanobis distance, position by position; SimCLR's settings reach its backbone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import one_line
from scipy.spatial import distance
from students import pictures

from edge.errors import UserError
from stages.common.schema import Views
from stages.detectors.base import Run
from stages.detectors.padim import Padim
from stages.detectors.patchcore import patch_embeddings
from stages.graph.tensors import to_tensor
from stages.training import simclr
from stages.training.torch_setup import prepare

TRAIN, VAL, NEW = pictures(12, 32, 1), pictures(2, 32, 2), pictures(2, 32, 3)


def fit(**changes) -> Padim:
    prepare(0, 1)
    settings = SimpleNamespace(**(vars(Padim.example()[0]) | changes))
    return Padim.fit(TRAIN, VAL, settings, Run(0, "test", lambda *_, **__: None))


def features(detector: Padim, samples: np.ndarray) -> np.ndarray:
    """[N, h, w, d] in double precision."""
    with torch.inference_mode():
        found = patch_embeddings(detector.extractor(to_tensor(samples)), 1)[:, detector.chosen]
    return found.permute(0, 2, 3, 1).double().numpy()


@pytest.mark.parametrize("per_position", [True, False])
def test_the_map_is_the_mahalanobis_distance(per_position):
    detector = fit(per_position=per_position)
    known, new, maps = features(detector, TRAIN), features(detector, NEW), detector.maps(NEW).numpy()
    assert maps.shape == new.shape[:3] and len(detector.chosen) == 12
    for n, y, x in [(0, 0, 0), (1, 3, 5), (0, 7, 2)]:
        good = known[:, y, x] if per_position else known.reshape(-1, 12)
        inverse = np.linalg.inv(np.cov(good.T) + 0.01 * np.eye(12))
        assert maps[n, y, x] == pytest.approx(distance.mahalanobis(new[n, y, x], good.mean(0), inverse), rel=1e-3)


def test_more_features_than_there_are_is_one_line():
    with pytest.raises(UserError, match=r"channels = 65: the backbone's layers have 64; give no more") as caught:
        fit(channels=65)
    one_line(caught)


def test_temperature_and_views_are_settings():
    """Another temperature or augmentation trains another backbone, and the defaults are what they always were."""
    same = fit().extractor.state_dict()
    default = Views(zoom=0.1, angle=7.5, shift=4, contrast=[0.7, 1.4], light=0.1, noise=0.02)
    assert all(
        torch.equal(value, same[name]) for name, value in fit(simclr_views=default).extractor.state_dict().items()
    )
    for change in ({"simclr_temperature": 0.5}, {"simclr_views": Views(noise=0.2)}, {"simclr_views": Views(angle=90)}):
        found = fit(**change).extractor.state_dict()
        assert any(not torch.equal(found[name], same[name]) for name in same), change


def test_without_augmentation_a_view_is_the_middle_of_its_crop():
    crops = to_tensor(pictures(3, 48, 4))
    none = Views(zoom=0, angle=0, shift=0, contrast=[1, 1], light=0, noise=0)
    found = simclr.random_views(crops, 32, torch.Generator().manual_seed(0), none)
    torch.testing.assert_close(found, crops[:, :, 8:40, 8:40], atol=1e-4, rtol=0)
