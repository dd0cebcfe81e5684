"""The student, its batch norm, pretrained start and synthetic defects, each against a reference."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from students import lively, smooth
from transformers import MobileNetV2Model, ResNetConfig, ResNetModel

from edge.errors import UserError
from stages.detectors.student_init import new_student
from stages.detectors.student_network import EMBEDDING, architecture
from stages.graph.batchnorm import fold, recalibrate
from stages.graph.network import Network, cost
from stages.training import synthetic_defects

torch.set_num_threads(1)


def size_of(student: Network) -> int:
    return sum(p.numel() for p in student.parameters())


# the graph


def test_widths_build_and_grow():
    sizes = []
    for width in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0):
        nodes = architecture(width)
        student = Network(nodes).eval()
        assert student.heads == ["mask", "embed"] and len({n.name for n in nodes}) == len(nodes)
        assert all(n.channels % 8 == 0 for n in nodes if n.kind == "conv" and n.name not in student.heads)
        shapes = [tuple(o.shape) for o in student(torch.rand(1, 3, 48, 48))]
        assert shapes == [(1, 1, 6, 6), (1, EMBEDDING, 3, 3)]
        sizes.append(size_of(student))
    assert all(a < b for a, b in itertools.pairwise(sizes))
    assert 3 < sizes[3] / sizes[1] < 4.5, "twice the width is about four times the weights"


@pytest.mark.parametrize(("width", "most"), [(0.25, 50e6), (0.375, 80e6), (1.0, 300e6), (1.5, 600e6)])
def test_multiply_accumulates_of_a_width(width, most):
    """At 256 x 256, with its bank: each new feature is compared with every entry."""
    found = cost(architecture(width), 256, 256)["macs"] + 8192 * width * EMBEDDING * 16**2
    assert 0.75 * most < found < most


def test_every_node_has_its_stride_and_channels():
    student = Network(architecture(0.5)).eval()
    values = student.activations(torch.rand(2, 3, 64, 96))
    stride, channels = {"input": 1}, {"input": 3}
    for node in student.nodes:
        first = node.inputs[0]
        stride[node.name] = stride[first] / 2 if node.kind == "up" else stride[first] * node.stride
        channels[node.name] = node.channels or channels[first]
        expected = (2, channels[node.name], 64 // stride[node.name], 96 // stride[node.name])
        assert tuple(values[node.name].shape) == expected, node.name
        assert len({stride[name] for name in node.inputs}) == 1, node.name
    assert stride["b5_add"] == 8 and stride["b9_add"] == stride["embed"] == 16 and stride["mask"] == 8
    assert channels["stem"] == 16 and channels["b9_add"] == 32


def test_roundtrip(tmp_path):
    student, images = lively(0.25), smooth(2, 32)
    student.save(tmp_path)
    loaded = Network.load(tmp_path)
    assert loaded.nodes == student.nodes and not loaded.training
    for a, b in zip(student(images), loaded(images), strict=True):
        assert torch.equal(a, b)
    (tmp_path / "nodes.json").write_text((tmp_path / "nodes.json").read_text().replace("b4_add", "b4_sum"))
    with pytest.raises(UserError, match=r"nodes\.json: damaged"):
        Network.load(tmp_path)


# batch norm


def test_fold_keeps_the_function():
    student, images = lively(0.5), smooth(3, 64)
    folded = fold(student)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    before, after = student.activations(images), folded.activations(images)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-4, rtol=1e-4)
    assert before["embed"].std() > 0.01


def test_recalibrated_statistics_are_those_of_the_first_layer():
    student, images = lively(0.25), smooth(8, 32, seed=3)
    momenta = [m.momentum for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    affine = student.ops["stem"].norm.weight.clone()
    padded = np.pad(images.double().numpy(), ((0, 0), (0, 0), (0, 1), (0, 1)))  # TensorFlow's SAME for stride 2
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    outputs = np.einsum("nchwyx,ocyx->nohw", windows, student.ops["stem"].conv.weight.detach().double().numpy())
    recalibrate(student, images, batch=8)
    norm = student.ops["stem"].norm
    np.testing.assert_allclose(norm.running_mean.numpy(), outputs.mean((0, 2, 3)), atol=1e-5)
    variance = outputs.transpose(1, 0, 2, 3).reshape(len(affine), -1).var(axis=1, ddof=1)
    np.testing.assert_allclose(norm.running_var.numpy(), variance, rtol=1e-4)
    recalibrate(student, images, batch=4)
    np.testing.assert_allclose(norm.running_mean.numpy(), outputs.mean((0, 2, 3)), atol=1e-5)
    assert momenta == [m.momentum for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert torch.equal(affine, norm.weight) and not student.training


# the pretrained start


@pytest.fixture(scope="module")
def weights(assets):
    return str(assets / "weights" / "mobilenet-v2-1.0-224")


@pytest.fixture(scope="module")
def full(weights):
    return new_student(weights, 1.0, smooth(4, 256))


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.assets
def test_pretrained_trunk_is_mobilenet_v2(weights, full):
    """In the interior of a large picture: outside of it, theirs sees grey and ours black."""
    reference = MobileNetV2Model.from_pretrained(weights).eval()
    images = smooth(1, 256, seed=9)
    with torch.inference_mode():
        expected = reference(images * 2 - 1, output_hidden_states=True).hidden_states
        found = full.activations(images)
    inner = slice(6, 10)  # the receptive field of block 9 reaches 85 pixels, less than 6 cells, to each side
    assert relative(found["b9_add"][..., inner, inner], expected[8][..., inner, inner]) < 0.01
    inner = slice(6, 26)  # 37 pixels, less than 5 cells of 8
    assert relative(found["b5_add"][..., inner, inner], expected[4][..., inner, inner]) < 0.01


@pytest.mark.assets
def test_a_wider_start_keeps_the_function(weights, full):
    wide = new_student(weights, 1.5, smooth(4, 256))
    images = smooth(1, 128, seed=9)
    with torch.inference_mode():
        expected, found = full.activations(images), wide.activations(images)
    for name in ("b0_project", "b5_add", "b9_add"):
        channels = expected[name].shape[1]
        assert found[name].shape[1] > channels
        assert relative(found[name][:, :channels], expected[name]) < 1e-3, name


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder"])
def test_a_missing_start_is_named(name):
    with pytest.raises(UserError, match=f"^student.init = {name}: no such folder") as caught:
        new_student(name, 1.0, smooth(1, 32))
    assert "\n" not in str(caught.value)


def test_a_start_of_another_kind_is_refused(tmp_path):
    """transformers would warn and leave the weights at random."""
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"^student.init = {tmp_path}: has no weights of a MobileNetV2") as caught:
        new_student(str(tmp_path), 1.0, smooth(1, 32))
    assert "\n" not in str(caught.value)


# synthetic defects


@pytest.mark.parametrize(("size", "cells"), [(32, 4), (45, 8)])
def test_perlin_against_loops(size, cells):
    angle = np.random.default_rng(5).uniform(0, 2 * np.pi, (cells + 1, cells + 1))

    def fade(t):
        return t * t * t * (t * (t * 6 - 15) + 10)

    def noise(y, x):
        j, i = int(y), int(x)
        total = 0.0
        for dy, dx in itertools.product((0, 1), repeat=2):
            v, u = y - j - dy, x - i - dx
            dot = math.cos(angle[j + dy, i + dx]) * u + math.sin(angle[j + dy, i + dx]) * v
            total += dot * fade(1 - abs(v)) * fade(1 - abs(u))
        return total * math.sqrt(2)

    expected = [[noise(y * cells / size, x * cells / size) for x in range(size)] for y in range(size)]
    found = synthetic_defects.perlin(np.random.default_rng(5), size, cells)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_defects_stay_near_their_mask_and_repeat():
    pictures = np.rint(smooth(2, 64).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    seen, strong = 0, 0
    for seed in range(150):
        image, donor = pictures[0].copy(), pictures[1].copy()
        found, mask = synthetic_defects.add_defect(np.random.default_rng(seed), image, donor)
        assert found.dtype == np.uint8 and mask.dtype == bool and mask.shape == (64, 64)
        assert np.array_equal(image, pictures[0]) and np.array_equal(donor, pictures[1])
        different = (found != image).any(axis=2)
        assert not (different & ~ndimage.binary_dilation(mask, iterations=1, structure=np.ones((13, 13)))).any(), seed
        seen += different[mask].any()
        strong += mask.any() and np.abs(found.astype(int) - image)[mask].mean() > 10
        again, same = synthetic_defects.add_defect(np.random.default_rng(seed), image, donor)
        assert np.array_equal(found, again) and np.array_equal(mask, same)
    assert seen >= 147 and 40 < strong < 150


def test_half_of_the_training_pool_is_good():
    pictures = np.rint(smooth(3, 64).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    images, masks = synthetic_defects.training_pool(pictures, 21, 4)
    assert images.shape == (21, 64, 64, 3) and images.dtype == np.uint8 and masks.shape == (21, 64, 64)
    assert not masks[::2].any() and masks[1::2].any((1, 2)).all()
    for i in range(0, 21, 2):  # a good picture is one of the given ones: shifted by up to 3 pixels, its light changed
        middle = images[i, 8:-8, 8:-8].ravel()
        best = 0
        for picture, dy, dx in itertools.product(pictures, range(5, 12), range(5, 12)):
            best = max(best, np.corrcoef(middle, picture[dy : dy + 48, dx : dx + 48].ravel())[0, 1])
        assert best > 0.995, i
    again, _ = synthetic_defects.training_pool(pictures, 5, 4)
    assert np.array_equal(again, images[:5]), "picture i depends on the seed and on i only"
    other, _ = synthetic_defects.training_pool(pictures, 5, 5)
    assert not np.array_equal(other, again)
    pools = [synthetic_defects.training_pool(pictures, 8, seed, pool)[0] for seed in range(3) for pool in range(3)]
    assert len(np.unique(np.concatenate(pools), axis=0)) == 9 * 8, "no picture of a pool is in another, of any seed"
