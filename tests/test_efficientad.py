"""EfficientAD: its networks, what its teacher learns, and the normalisation of its maps, worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from students import pictures
from torch import nn

from edge.errors import UserError
from stages.common.params import check
from stages.detectors import efficientad
from stages.detectors.base import Run
from stages.detectors.efficientad import EfficientAD, Targets, lit, quantile_scale
from stages.detectors.efficientad_network import LAYERS, architecture, description, receptive_field, weigh
from stages.graph.network import Network
from stages.graph.tensors import to_tensor
from stages.training import torch_setup
from stages.training.hard_features import hard_feature_loss
from stages.training.torch_setup import prepare

TRAIN = pictures(6, 64, 1)


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(0, 1)


# the networks


@pytest.mark.parametrize("size", LAYERS)
def test_one_output_sees_33_pixels(size):
    """By the gradient of one output, and by the layers, as the paper says of both sizes."""
    network = Network(description("p", size, 4, ["head"]))
    images = torch.rand(1, 3, 96, 96, requires_grad=True)
    network(images)[0, :, 3, 5].sum().backward()
    seen = images.grad.abs().sum((0, 1)) > 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    assert receptive_field(size) == 33
    assert [int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])] == [12, 12 + 32, 20, 20 + 32]


def test_the_small_teacher_is_the_published_one():
    """Table 6 of the paper, written down once more in torch."""
    layers: list[nn.Module] = [nn.Conv2d(3, 128, 4), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(128, 256, 4), nn.ReLU()]
    layers += [nn.AvgPool2d(2), nn.Conv2d(256, 256, 3), nn.ReLU(), nn.Conv2d(256, 384, 4)]
    reference = nn.Sequential(*layers)
    network = Network(description("p", "small", 384, ["head"]))
    convs = [layer for layer in reference if isinstance(layer, nn.Conv2d)]
    for mine, theirs in zip(network.layers.values(), convs, strict=True):
        mine.load_state_dict(theirs.state_dict())
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network(images), reference(images))


@pytest.mark.parametrize(("size", "params"), [("small", 8.06e6), ("medium", 20.8e6)])
def test_maps_have_a_quarter_of_the_side(size, params):
    network = Network(architecture(size, 64))
    assert network.heads == ["map"]
    with torch.inference_mode():
        values = network.activations(torch.rand(1, 3, 64, 64))
    assert values["teacher"].shape == values["autoencoder"].shape == values["student_local"].shape == (1, 384, 8, 8)
    assert values["map"].shape == (1, 1, 16, 16)
    assert network.cost(64, 64)["params"] == pytest.approx(params, rel=0.1)  # its innermost windows are smaller


@pytest.mark.parametrize("side", [48, 80, 256])
def test_every_side_fits(side):
    assert Network(architecture("small", side, 8)).cost(side, side)["macs"] > 0
    with pytest.raises(UserError, match=r"input.size = 32: EfficientAD needs pictures of 48 pixels or more"):
        architecture("small", 32)


# what is learned


class Planes(nn.Module):
    """A backbone of known features: the picture at a quarter of its size, and its squares."""

    def forward(self, images):
        small = nn.functional.avg_pool2d(images, 4)
        return [torch.cat([small, small.square()], 1).repeat(1, self.copies, 1, 1)]

    def __init__(self, copies: int = 1):
        super().__init__()
        self.copies = copies


@pytest.mark.parametrize("copies", [1, 128])
def test_targets_are_normalised_features(copies):
    """Of 768 channels neighbours are averaged, as PatchCore does."""
    targets = Targets(Planes(copies), TRAIN)
    found = targets(to_tensor(TRAIN), 16)
    assert found.shape == (len(TRAIN), min(6 * copies, 384), 16, 16)
    torch.testing.assert_close(found.mean((0, 2, 3)), torch.zeros(found.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std((0, 2, 3), correction=0), torch.ones(found.shape[1]), atol=1e-3, rtol=0)
    raw = nn.functional.avg_pool2d(Planes(copies)(to_tensor(TRAIN))[0], 3, 1, 1)
    if copies > 1:
        raw = raw.view(len(TRAIN), 384, 2, 16, 16).mean(2)
    wanted = (raw - raw.mean((0, 2, 3), True)) / raw.std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_the_teacher_learns_the_features_and_the_student_the_teacher():
    losses: dict[str, list[float]] = {}

    def log(step, **values):
        for name, value in values.items():
            losses.setdefault(name, []).append(value)

    changes = {"teacher_epochs": 4, "epochs": 16, "batch": 3, "lr": 0.001}
    settings = SimpleNamespace(**(vars(EfficientAD.example()[0]) | changes))
    targets, run = Targets(Planes(), TRAIN), Run(0, "test", log)
    network = Network(architecture("small", 64, targets.channels))
    efficientad.distil_teacher(network, targets, np.concatenate([TRAIN, TRAIN]), settings, run)
    assert losses["teacher_loss"][-1] < 0.8 * losses["teacher_loss"][0]
    efficientad.normalise_teacher(network, TRAIN)
    with torch.inference_mode():
        found = network.activations(to_tensor(TRAIN))["teacher"]
    torch.testing.assert_close(found.mean((0, 2, 3)), torch.zeros(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.std((0, 2, 3), correction=0), torch.ones(6), atol=1e-2, rtol=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    efficientad.train_student(network, np.repeat(TRAIN[:1], 3, 0), settings, run)
    assert losses["efficientad_loss"][-1] < 0.9 * losses["efficientad_loss"][0]
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not [name for name in changed if name.startswith("ops.teacher")]
    assert {"ops.student_local.conv.weight", "ops.student_global.conv.bias", "ops.code.conv.weight"} <= changed


def test_hard_features_are_those_above_the_quantile():
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 5, 20, 20)))
    squared = values.numpy() ** 2
    wanted = squared[squared >= np.quantile(squared, 0.99)].mean()
    assert hard_feature_loss(values, torch.zeros_like(values), 0.99).item() == pytest.approx(wanted)
    assert hard_feature_loss(values, torch.zeros_like(values), 0.0).item() == pytest.approx(squared.mean())


def test_light_changes_by_a_fifth_at_most():
    images = to_tensor(pictures(64, 16, 2))
    found = lit(images, torch.Generator().manual_seed(0))
    apart = (found - images).abs()
    assert 0.01 < apart.max() <= 0.2 + 1e-6 and found.min() >= 0 and found.max() <= 1
    assert torch.equal(found, lit(images, torch.Generator().manual_seed(0)))


# the normalisation


def test_quantiles_of_good_maps_become_0_and_a_tenth():
    """By hand: of 0, 1, … 1000 the quantiles are 900 and 995, and half of 0.1 / 95 is the scale."""
    scale, shift = quantile_scale(np.random.default_rng(0).permutation(1001).astype(float).reshape(7, 11, 13))
    assert scale == pytest.approx(0.05 / 95) and shift == pytest.approx(-900 * 0.05 / 95)
    with pytest.raises(UserError, match=r"the local map is 0\.0 on all good pictures; use a lower learning rate"):
        quantile_scale(np.zeros((3, 4, 4)), "local")


def test_the_map_of_the_graph_is_the_mean_of_both_normalised_maps():
    network = Network(architecture("small", 64, 2)).eval()
    local, whole = quantile_scale(np.arange(1001.0)), quantile_scale(np.arange(101.0))
    weigh(network, {"local": local, "global": whole})
    with torch.inference_mode():
        values = {name: value.double().numpy() for name, value in network.activations(to_tensor(TRAIN)).items()}
    parts = []
    for first, second, low, high in (
        ("teacher", "student_local", 900, 995),
        ("autoencoder", "student_global", 90, 99.5),
    ):
        distance = ((values[first] - values[second]) ** 2).mean(1)
        parts.append(0.1 * (np.pad(distance, ((0, 0), (4, 4), (4, 4))) - low) / (high - low))
    np.testing.assert_allclose(values["map"][:, 0], (parts[0] + parts[1]) / 2, rtol=1e-4, atol=1e-5)


# time and repetition


def test_the_light_changes_from_epoch_to_epoch_and_comes_back_after_a_kill():
    """Of a batch of one picture too, whose order can't tell epochs apart."""
    images, pick = to_tensor(pictures(1, 16, 2)), torch.tensor([3])
    found = [lit(images, efficientad.light(0, epoch, pick)) for epoch in (0, 1, 0)]
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], lit(images, efficientad.light(1, 0, pick)))


def test_training_asks_for_the_light_of_each_epoch_also_when_it_goes_on(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # of checkpoints
    settings, asked = efficientad.SimpleNamespace(**vars(EfficientAD.example()[0]) | {"epochs": 2, "batch": 2}), []

    def spied(seed, epoch, pick):
        asked.append(epoch)
        if len(asked) == killed_at:
            raise KeyboardInterrupt
        return torch.Generator().manual_seed(0)

    monkeypatch.setattr(efficientad, "light", spied)
    run, samples = Run(0, "baseline", lambda *_, **__: None), pictures(4, 64, 2)

    def train():
        torch.manual_seed(0)
        efficientad.train_student(Network(architecture("small", 64, 2)), samples, settings, run)

    killed_at = 3  # the first step of the second epoch
    with pytest.raises(KeyboardInterrupt):
        train()
    assert asked == [0, 0, 1]
    asked.clear()
    killed_at = 0
    train()
    assert asked == [1, 1]


@pytest.mark.parametrize("bfloat16", [False, True])
def test_training_computes_in_bfloat16_where_the_processor_does(monkeypatch, bfloat16):
    monkeypatch.setattr(torch_setup, "multiplies_bfloat16", lambda: bfloat16)
    with torch_setup.mixed_anywhere(torch.device("cpu")):
        found = nn.Conv2d(3, 4, 3)(torch.rand(1, 3, 8, 8))
    assert found.dtype == (torch.bfloat16 if bfloat16 else torch.float32)


def test_settings_from_before_the_teacher_had_a_batch_of_its_own_are_taken():
    settings = vars(EfficientAD.example()[0])
    old = {name: value for name, value in settings.items() if name != "teacher_batch"}
    assert check(EfficientAD.Settings, old, "settings").teacher_batch == 4
    with pytest.raises(UserError, match="teacher_batch"):
        check(EfficientAD.Settings, settings | {"teacher_batch": 0}, "settings")
