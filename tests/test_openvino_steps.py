"""Int8 networks of OpenVINO whose tensors hold steps: they compute what they did before, with less around each sum."""

import cv2
import numpy as np
import openvino
import pytest
import torch
from exporting import random_student
from openvino import opset13 as op
from torch.nn.functional import conv2d, max_pool2d

from edge.inference.runtimes.openvino import core
from stages.compile.exporters import onnx as onnx_exporter
from stages.compile.openvino_steps import CONVOLUTIONS, in_steps

SIDE, CHANNELS = 12, 4


def run(model: openvino.Model, image: np.ndarray) -> list[np.ndarray]:
    """By the kernels of this CPU."""
    return list(core(openvino).compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([image]).values())


def rounded(x, low, high, least, most, node):
    """FakeQuantize, by its specification."""
    steps = node.get_attributes()["levels"] - 1
    x = torch.minimum(torch.maximum(x, low), high)
    return ((x - low) / (high - low) * steps).round() / steps * (most - least) + least


def grouped(x, given, node):
    return conv2d(x, given.flatten(0, 1), padding=node.get_pads_begin()[0], groups=given.shape[0])


OPERATIONS = {
    "Convert": lambda x, _: x,
    "Add": lambda a, b, _: a + b,
    "Subtract": lambda a, b, _: a - b,
    "Multiply": lambda a, b, _: a * b,
    "Reshape": lambda x, shape, _: x.reshape(*map(int, shape)),
    "ReduceMin": lambda x, axis, node: x.amin(int(axis), keepdim=node.get_attributes()["keep_dims"]),
    "ReduceMean": lambda x, axes, _: x.mean(tuple(map(int, axes)), keepdim=True),
    "ReduceMax": lambda x, _axis, _: x.amax(1),
    "MaxPool": lambda x, node: max_pool2d(x, tuple(node.get_attributes()["kernel"]), 1),
    "Transpose": lambda x, order, _: x.permute(*map(int, order)),
    "FakeQuantize": rounded,
    "Convolution": lambda x, given, node: conv2d(x, given, padding=node.get_pads_begin()[0]),
    "GroupConvolution": grouped,
    "Result": lambda x, _: x,
}


def evaluated(model: openvino.Model, image: np.ndarray) -> list[np.ndarray]:
    """What the operations compute as they are written, in float64, whatever the kernels of a CPU make of them."""
    found = {model.inputs[0].get_node().get_name(): torch.from_numpy(image).double()}
    for node in model.get_ordered_ops():
        name, kind = node.get_name(), node.get_type_name()
        if kind == "Constant":
            found[name] = torch.from_numpy(np.array(node.data)).double()
        elif name not in found:
            inputs = [found[value.get_node().get_name()] for value in node.input_values()]
            found[name] = OPERATIONS[kind](*inputs, node)
    return [found[result.get_name()].numpy() for result in model.get_results()]


def grid(value, low: float, high: float, even: bool = True):
    """`even`: the nearest range with zero on its grid."""
    step = (high - low) / 255
    low = round(low / step) * step if even else low
    bounds = [op.constant(np.float32(bound)) for bound in (low, low + 255 * step, low, low + 255 * step)]
    return op.fake_quantize(value, *bounds, 256)


def uneven(value, bounds: list, out: list | None = None, levels: int = 256):
    """Another FakeQuantize than that of an int8 tensor."""
    constants = [op.constant(np.array(bound, np.float32)) for bound in (*bounds, *(out or bounds))]
    return op.fake_quantize(value, *constants, levels)


def weights(seed: int, *shape: int):
    """Int8 weights with a scale per output channel, as a QDQ file has them."""
    random = np.random.default_rng(seed)
    values = op.convert(op.constant(random.integers(-127, 128, shape).astype(np.int8)), openvino.Type.f32)
    scale = random.uniform(0.004, 0.012, (shape[0], *[1] * (len(shape) - 1)))
    return op.multiply(values, op.constant(scale, np.float32))


def _shape(*sides: int):
    return op.constant(np.array(sides))


def layer(value, given, pad: int = 0, seed: int = 0):
    made = op.convolution(value, given, [1, 1], [pad, pad], [pad, pad], [1, 1])
    bias = np.random.default_rng(seed).normal(0, 0.3, (1, made.shape[1], 1, 1))
    return op.add(made, op.constant(bias, np.float32))


def depthwise(value, seed: int):
    given = op.reshape(weights(seed, CHANNELS, 1, 3, 3), _shape(CHANNELS, 1, 1, 3, 3), False)
    made = op.group_convolution(value, given, [1, 1], [1, 1], [1, 1], [1, 1])
    return op.add(made, op.constant(np.random.default_rng(seed).normal(0, 0.3, (1, CHANNELS, 1, 1)), np.float32))


def outputs(kind: str, image) -> list:
    """The end of a small network for each thing that a tensor may be read by."""
    start = grid(layer(grid(image, 0, 1), weights(1, CHANNELS, 3, 1, 1)), -0.7, 1.1)  # with a zero point
    if kind == "padded":
        return [grid(layer(start, weights(2, CHANNELS, CHANNELS, 3, 3), pad=1), -2, 2)]
    if kind == "depthwise":
        above = grid(depthwise(start, 3), 0, 1.5)
        return [grid(layer(grid(depthwise(above, 4), 0, 1), weights(5, 2, CHANNELS, 1, 1)), -2, 2)]
    if kind == "residual":
        other = grid(layer(start, weights(6, CHANNELS, CHANNELS, 1, 1)), -1, 2)
        total = grid(op.add(start, other), -1.5, 2.51)
        return [grid(layer(total, weights(7, 2, CHANNELS, 1, 1)), -2, 2), total]
    if kind.startswith("minimum of "):
        entries = int(kind.split()[-1])
        bank = grid(layer(start, weights(8, entries, CHANNELS, 1, 1)), -0.9, 0.4)
        least = grid(op.reduce_min(bank, op.constant(np.array([1])), keep_dims=True), -0.9, 0.4)
        return [grid(op.add(least, least), -1.8, 0.8)]
    if kind == "shared weights":
        both = weights(9, CHANNELS, CHANNELS, 1, 1)
        return [grid(layer(grid(layer(start, both), -1, 1), both, seed=1), -2, 2)]
    if kind == "reshaped for two":
        both = op.reshape(weights(14, CHANNELS, CHANNELS), _shape(CHANNELS, CHANNELS, 1, 1), False)
        return [grid(layer(grid(layer(start, both), -1, 1), both, seed=1), -2, 2)]
    if kind == "one bias for all":
        made = op.convolution(start, weights(15, CHANNELS, CHANNELS, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])
        return [grid(op.add(made, op.constant(np.full((1, 1, 1, 1), 0.2, np.float32))), -2, 2)]
    if kind == "no zero":
        odd = grid(layer(start, weights(12, CHANNELS, CHANNELS, 1, 1)), -0.9013, 1.1, even=False)
        return [grid(layer(odd, weights(13, 2, CHANNELS, 1, 1)), -2, 2)]
    if kind == "no bias":
        return [grid(op.convolution(start, weights(10, 2, CHANNELS, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1]), -2, 2)]
    if kind == "padded by itself":
        given = weights(16, 2, CHANNELS, 3, 3)
        made = op.convolution(start, given, [1, 1], [0, 0], [0, 0], [1, 1], auto_pad="same_upper")
        return [grid(op.add(made, op.constant(np.full((1, 2, 1, 1), 0.2, np.float32))), -2, 2)]
    if kind == "weights without a scale":
        given = np.random.default_rng(17).normal(0, 0.5, (2, CHANNELS, 1, 1))
        return [grid(layer(start, op.constant(given, np.float32)), -2, 2)]
    if kind == "scale from the picture":
        mean = op.reshape(op.reduce_mean(image, op.constant(np.arange(4)), keep_dims=True), _shape(1, 1, 1, 1), False)
        return [grid(layer(start, op.multiply(weights(18, 2, CHANNELS, 1, 1), mean)), -2, 2)]
    if kind in AFTER:
        made = op.convolution(start, weights(19, CHANNELS, CHANNELS, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])
        return [grid(value, -2, 2) for value in AFTER[kind](made, start)]
    if kind in FAKES:
        made = uneven(layer(start, weights(20, CHANNELS, CHANNELS, 1, 1)), *FAKES[kind])
        return [grid(layer(made, weights(21, 2, CHANNELS, 1, 1)), -2, 2)]
    if kind.startswith("minimum"):
        bank = grid(layer(start, weights(8, 16, CHANNELS, 1, 1)), -2, 2)
        axis = op.constant(np.array([2 if kind == "minimum over rows" else 1]))
        kept = kind != "minimum without its axis"
        return [grid(op.reduce_min(bank, axis, keep_dims=kept), -2, 2) for _ in range(1 + (kind == "minimum twice"))]
    raise AssertionError(kind)


OFFSET = op.constant(np.random.default_rng(22).normal(0, 0.5, (1, CHANNELS, 1, 1)), np.float32)
AFTER = {
    "bias from the picture": lambda made, start: [op.add(made, op.reduce_mean(start, _shape(2, 3), keep_dims=True))],
    "a factor for a bias": lambda made, _: [op.multiply(made, OFFSET)],
    "with and without its bias": lambda made, _: [op.add(made, OFFSET), made],
}
FAKES = {
    "fewer levels": ([-128 / 127, 1.0], None, 128),
    "a grid of each channel": ([[[[-128 / 127]], [[-0.4]], [[-1.5]], [[-0.9]]], 1.0],),
    "onto other values": ([-128 / 127, 1.0], [-256 / 127, 2.0]),
}


KINDS = {
    "padded": 1,
    "depthwise": 3,
    "residual": 3,
    "minimum of 96": 3,
    "minimum of 6": 2,
    "shared weights": 1,
    "reshaped for two": 1,
    "one bias for all": 1,
    "no zero": 2,
    "no bias": 1,
    "padded by itself": 1,
    "weights without a scale": 1,
    "scale from the picture": 1,
    "bias from the picture": 1,
    "a factor for a bias": 1,
    "with and without its bias": 1,
    "fewer levels": 2,
    "a grid of each channel": 2,
    "onto other values": 2,
    "minimum in two pictures": 2,
    "minimum over rows": 2,
    "minimum without its axis": 2,
    "minimum twice": 2,
}
"""How many tensors hold steps then: of those with a zero point none before a padded layer, none around weights that
layers share or without a scale and a bias of each channel to change, and none whose grid misses zero or is another.
A minimum over other than channels, or beside another reader, keeps values."""


def network(kind: str) -> openvino.Model:
    image = op.parameter([pictures(kind), 3, SIDE, SIDE], openvino.Type.f32, name="image")
    return openvino.Model(outputs(kind, image), [image])


def pictures(kind: str) -> int:
    return 2 if "two pictures" in kind else 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_values_stay(kind):
    plain, changed = network(kind), network(kind)
    image = np.random.default_rng(11).random((pictures(kind), 3, SIDE, SIDE), np.float32)
    assert in_steps(changed) == KINDS[kind]
    for wanted, found in zip(evaluated(plain, image), evaluated(changed, image), strict=True):
        assert wanted.std() > 0.05, "the network says something"
        assert (np.abs(found - wanted) < 1e-4).mean() > 0.99, "a sum just between two steps may fall either way"


def test_a_float_network_stays_as_it_is():
    image = op.parameter([1, 3, SIDE, SIDE], openvino.Type.f32)
    model = openvino.Model([layer(image, weights(1, CHANNELS, 3, 1, 1))], [image])
    picture = np.random.default_rng(11).random((1, 3, SIDE, SIDE), np.float32)
    before, count = evaluated(model, picture), len(model.get_ops())
    assert in_steps(model) == 0 and len(model.get_ops()) == count
    np.testing.assert_array_equal(evaluated(model, picture), before)


@pytest.mark.slow
def test_a_student_computes_what_it_did():
    """And every layer of it reads steps, but for what pads a tensor with a zero point. Kernels round otherwise, so that
    likeness is all that is asked of them."""
    path = str(onnx_exporter.source(random_student().int8_build))
    plain, changed = openvino.convert_model(path), openvino.convert_model(path)
    assert in_steps(changed) == 45 and sum(node.get_type_name() == "MaxPool" for node in changed.get_ops()) == 2
    for node in changed.get_ordered_ops():
        if node.get_type_name() in CONVOLUTIONS:
            fake = node.input_value(0).get_node()
            steps = fake.get_type_name() == "FakeQuantize" and np.array(fake.input_value(4).get_node().data) == 255
            assert steps or any([*node.get_pads_begin(), *node.get_pads_end()]), node.get_friendly_name()
    image = cv2.GaussianBlur(np.random.default_rng(3).random((64, 64, 3), np.float32), (0, 0), 3)
    image = cv2.normalize(image, None, 0, 1, cv2.NORM_MINMAX).transpose(2, 0, 1)[None]
    for wanted, found in zip(run(plain, image), run(changed, image), strict=True):
        assert wanted.std() > 0 and np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98
