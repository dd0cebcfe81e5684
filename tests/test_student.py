"""The student's network, its batch norm and synthetic defects, each against a reference."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from students import lively, smooth

from edge.errors import UserError
from stages.detectors.student_network import EMBEDDING, architecture, taps
from stages.detectors.trunks.mobilenet_v2 import STAGES
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
        nodes = architecture(STAGES, width)
        student = Network(nodes).eval()
        assert student.heads == ["mask", "embed_fine", "embed_deep"] and len({n.name for n in nodes}) == len(nodes)
        assert all(n.channels % 8 == 0 for n in nodes if n.kind == "conv" and n.name not in student.heads)
        shapes = [tuple(o.shape) for o in student(torch.rand(1, 3, 48, 48))]
        assert shapes == [(1, 1, 6, 6), (1, EMBEDDING, 3, 3), (1, EMBEDDING, 3, 3)]
        sizes.append(size_of(student))
    assert all(a < b for a, b in itertools.pairwise(sizes))
    assert 3 < sizes[3] / sizes[1] < 4.5, "twice the width is about four times the weights"


@pytest.mark.parametrize(("width", "most"), [(0.25, 50e6), (0.375, 80e6), (1.0, 300e6), (1.5, 600e6)])
def test_multiply_accumulates_of_a_width(width, most):
    """At 256 x 256, with its banks: each new feature is compared with every entry, of 4096 deep and 2048 fine ones."""
    found = cost(architecture(STAGES, width), 256, 256)["macs"] + (4096 + 2048) * width * EMBEDDING * 16**2
    assert 0.75 * most < found < most


def test_every_node_has_its_stride_and_channels():
    student = Network(architecture(STAGES, 0.5)).eval()
    values = student.activations(torch.rand(2, 3, 64, 96))
    stride, channels = {"input": 1}, {"input": 3}
    for node in student.nodes:
        first = node.inputs[0]
        stride[node.name] = stride[first] / 2 if node.kind == "up" else stride[first] * node.stride
        channels[node.name] = node.channels or channels[first]
        expected = (2, channels[node.name], 64 // stride[node.name], 96 // stride[node.name])
        assert tuple(values[node.name].shape) == expected, node.name
        assert len({stride[name] for name in node.inputs}) == 1, node.name
    assert taps(student) == {"fine": "b5_add", "deep": "b10_project"}
    assert stride["b5_add"] == stride["mask"] == 8
    assert stride["b10_project"] == stride["embed_fine"] == stride["embed_deep"] == 16
    assert channels["stem"] == 16 and channels["b5_add"] == 16 and channels["b10_project"] == 48


def test_embeddings_are_of_local_means():
    """PatchCore's 3 x 3 means; of the fine features, averaged over 2 x 2 positions to stride 16."""
    student, images = lively(0.5), smooth(2, 96)
    with torch.inference_mode():
        values = student.activations(images)
    for source, tap in taps(student).items():
        means = ndimage.uniform_filter(values[tap].double().numpy(), (1, 1, 3, 3), mode="constant")
        if source == "fine":
            means = means.reshape(*means.shape[:2], 6, 2, 6, 2).mean((3, 5))
        np.testing.assert_allclose(values[f"pool_{source}"].numpy(), means, atol=1e-5)
        weight = student.ops[f"embed_{source}"].conv.weight.detach()[:, :, 0, 0].double().numpy()
        bias = student.ops[f"embed_{source}"].conv.bias.detach().double().numpy()[:, None, None]
        expected = np.einsum("oc,nchw->nohw", weight, means) + bias
        np.testing.assert_allclose(values[f"embed_{source}"].numpy(), expected, atol=1e-4)


def test_activations_can_be_continued_from_any_node():
    """Given ones are kept, what follows from them is computed, what does not is left out; `only` leaves out more."""
    student, images = lively(0.25), smooth(2, 64)
    whole, points = student.activations(images), list(taps(student).values())
    given = {name: whole[name] for name in points}
    found = student.continued(given)
    assert {"mask", "embed_fine", "embed_deep", "b6_expand"} <= found.keys()
    assert not {"stem", "b5_project"} & found.keys() and all(found[name] is given[name] for name in points)
    for name, value in found.items():
        assert torch.equal(value, whole[name]), name
    head = {"deep", "deep_up", "fine", "joined", "neck_depth", "neck", "mask"}
    assert student.continued(given, head).keys() == head | given.keys() and list(given) == points
    changed = student.continued({name: value + 1 for name, value in given.items()}, head)
    assert not torch.allclose(changed["mask"], whole["mask"])


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
        torch.testing.assert_close(after[name], value, atol=3e-4, rtol=1e-4)  # the order of sums is the processor's
    assert before["embed_deep"].std() > 0.01


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


# synthetic defects


@pytest.mark.parametrize(("height", "width", "cells"), [(32, 32, 4), (45, 45, 8), (32, 80, 4), (90, 33, 4)])
def test_perlin_against_loops(height, width, cells):
    size = min(height, width)
    corners = [math.ceil(cells * side / size) + 1 for side in (height, width)]
    angle = np.random.default_rng(5).uniform(0, 2 * np.pi, corners)

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

    expected = [[noise(y * cells / size, x * cells / size) for x in range(width)] for y in range(height)]
    found = synthetic_defects.perlin(np.random.default_rng(5), height, width, cells)
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
