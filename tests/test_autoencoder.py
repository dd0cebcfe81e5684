"""The autoencoder: its layers, its error map, training in float and with fake quantization."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from students import pictures

from stages.detectors.autoencoder import Autoencoder, reconstruction, with_error
from stages.detectors.base import Run
from stages.graph.batchnorm import recalibrate
from stages.graph.network import Network
from stages.graph.tensors import to_tensor
from stages.training.torch_setup import prepare

TRAIN, VAL, NEW = pictures(12, 64, 1), pictures(4, 64, 2), pictures(5, 64, 3)


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fit(**changes):
    """A small autoencoder, and the losses of its training in their order."""
    prepare(0, 1)
    settings = SimpleNamespace(**(vars(Autoencoder.example()[0]) | changes))
    losses: dict[str, list[float]] = {}

    def log(step, **values):
        for name, value in values.items():
            losses.setdefault(name, []).append(value)

    return Autoencoder.fit(TRAIN, VAL, settings, Run(0, "test", log)), losses


def test_the_layers_are_those_of_the_paper():
    """Table 1 of Bergmann et al. (2019): the encoder's outputs for 128 x 128 x 3 and a code of 100."""
    network = Network(reconstruction(128, 3, 1, 100)).eval()
    found = {name: list(value.shape[1:]) for name, value in network.activations(torch.rand(1, 3, 128, 128)).items()}
    sides = [(32, 64), (32, 32), (32, 32), (64, 16), (64, 16), (128, 8), (64, 8), (32, 8)]
    assert [found[f"encode_{i}"] for i in range(8)] == [[channels, side, side] for channels, side in sides]
    assert found["code"] == [100, 1, 1] and found["decode"] == [32, 8, 8] and found["picture"] == [3, 128, 128]


@pytest.mark.parametrize("size", [32, 48, 80, 256])
def test_every_size_of_the_schema_is_repeated(size):
    network = Network(reconstruction(size, 1, 0.1, 4), 1).eval()
    values = network.activations(torch.rand(1, 1, size, size))
    assert values["code"].shape == (1, 4, 1, 1) and values["picture"].shape == (1, 1, size, size)


def test_decoding_starts_as_a_transposed_convolution():
    network = Network(reconstruction(64, 3, 0.25, 8)).eval()
    code, conv = torch.randn(2, 8, 1, 1), network.layers["decode"]
    found = conv(network.ops["decode"].padded(code))
    wanted = torch.nn.functional.conv_transpose2d(code, conv.weight.flip(2, 3).transpose(0, 1))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_map_is_the_mean_squared_error_of_windows():
    torch.manual_seed(0)
    network = Network(reconstruction(64, 3, 0.25, 8))
    recalibrate(network, to_tensor(TRAIN))
    with torch.inference_mode():
        picture = network(to_tensor(NEW)).permute(0, 2, 3, 1).numpy()
    found = Autoencoder(with_error(network)).maps(NEW).numpy()
    squared = np.pad((NEW / 255.0 - picture) ** 2, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for n, y, x in np.ndindex(found.shape):
        wanted = squared[n, 4 * y : 4 * y + 8, 4 * x : 4 * x + 8].mean()
        assert found[n, y, x] == pytest.approx(wanted, rel=1e-3, abs=1e-6)


def test_training_learns_to_repeat_and_a_spot_that_it_never_saw_stands_out():
    detector, losses = fit(loss="l2", images=48, epochs=10, qat_epochs=0)
    first, *_, last = losses["autoencoder_loss"]
    assert last < 0.5 * first
    spoilt = TRAIN.copy()
    spoilt[:, 28:36, 44:52] = 255 - spoilt[:, 28:36, 44:52] // 8
    more = detector.maps(spoilt) - detector.maps(TRAIN)
    inside = more[:, 7:9, 11:13].mean()
    assert inside > 10 * more.abs().mean()


def test_the_structural_loss_is_the_one_that_falls():
    _, losses = fit(loss="ssim", images=32, epochs=8, qat_epochs=0)
    first, *_, last = losses["autoencoder_loss"]
    assert last < first < 1.1, "1 - SSIM"


def test_fake_quantization_goes_on_and_its_ranges_are_the_files():
    detector, losses = fit(images=24, epochs=4, qat_epochs=2)
    assert losses["qat_loss"][-1] < losses["autoencoder_loss"][0]
    export = detector.export()
    assert export.quantized is detector.quantized and "training" in export.ranges
    picture = export.quantized.quantizer("picture").range
    whole = export.quantized.calibrated(export.module, to_tensor(TRAIN)).quantizer("picture").range
    assert not torch.equal(picture, whole), "learned, not calibrated"
    assert fit(qat_epochs=0)[0].export().quantized is None
