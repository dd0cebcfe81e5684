"""The integer arithmetic of single operators against the runtime: every value or pair of them, on many grids."""

import numpy as np
import pytest
import torch
from edgetpu_models import Net
from kernels import PLAIN, invoke

from stages.graph.network import Node
from stages.graph.operations import KINDS
from stages.graph.operations.concat import requantize

EVERY = np.arange(-128, 128, dtype=np.int8)
APART = {  # TFLite operator: the largest share of outputs that TFLite's own kernels put one step apart
    "ADD": 5e-5,
    "SUB": 5e-5,
    "MUL": 0.01,
    "LOGISTIC": 0,
    "TANH": 0,
    "QUANTIZE": 0.2,
    "AVERAGE_POOL_2D": 0,
    "RESIZE_BILINEAR": 0.06,
}


def grid(rng) -> tuple[float, int]:
    return float(np.float32(10 ** rng.uniform(-2.5, -0.5))), int(rng.integers(-128, 128))


def single(operator: str, rng):
    """A node, what it takes (int8 [1, h, w, c]), the grids of that, its own, the file's options and constants."""
    noise, one, two = rng.integers(-128, 128, (1, 31, 33, 8)).astype(np.int8), grid(rng), grid(rng)
    line, pairs = [EVERY.reshape(1, 16, 16, 1)], [v.reshape(1, 256, 256, 1).copy() for v in np.meshgrid(EVERY, EVERY)]
    kernel, stride, padding = int(rng.integers(2, 6)), int(rng.integers(1, 4)), ("same", "valid")[rng.integers(2)]
    window = Node("x", "pool", ("a",), kernel=kernel, stride=stride, padding=padding)
    widths = {"filterWidth": kernel, "filterHeight": kernel, "strideW": stride, "strideH": stride}
    product, larger = one[0] * two[0] * 127, max(one[0], two[0])

    def wider(scale: float) -> tuple[float, int]:
        return float(np.float32(scale * 10 ** rng.uniform(0, 0.5))), two[1]

    return {
        "ADD": (Node("x", "add", ("a", "b")), pairs, [one, two], wider(larger), {"fusedActivationFunction": 0}, []),
        "SUB": (Node("x", "sub", ("a", "b")), pairs, [one, two], wider(larger), {"fusedActivationFunction": 0}, []),
        "MUL": (Node("x", "mul", ("a", "b")), pairs, [one, two], wider(product), {"fusedActivationFunction": 0}, []),
        "LOGISTIC": (Node("x", "sigmoid", ("a",)), line, [one], (1 / 256, -128), {}, []),
        "TANH": (Node("x", "tanh", ("a",)), line, [one], (1 / 128, 0), {}, []),
        "QUANTIZE": (None, line, [one], wider(one[0] * 10 ** rng.uniform(-1, 1.5)), {}, []),
        "AVERAGE_POOL_2D": (window, [noise], [one], one, {**widths, "padding": ("same", "valid").index(padding)}, []),
        "RESIZE_BILINEAR": (Node("x", "up", ("a",)), [noise], [one], one, {"halfPixelCenters": True}, [[62, 66]]),
    }[operator]


@pytest.mark.parametrize("operator", APART)
def test_single_operator_on_every_kernel(operator, tmp_path):
    rng = np.random.default_rng(list(APART).index(operator))
    apart = {kernels: [] for kernels in PLAIN}
    for _ in range(25):
        node, inputs, grids, own, options, constants = single(operator, rng)
        tensors = [torch.from_numpy(x.astype(float)).permute(0, 3, 1, 2) for x in inputs]
        if node is None:
            expected = requantize(tensors[0], grids[0], own)
        else:
            expected = KINDS[node.kind](node, [x.shape[1] for x in tensors]).simulate(tensors, grids, own)
        expected = expected.clamp(-128, 127).permute(0, 2, 3, 1).numpy()
        net = Net()
        net.graph.inputs = [net.tensor(x.shape, grid=g) for x, g in zip(inputs, grids, strict=True)]
        net.graph.outputs = [net.tensor(expected.shape, grid=own)]
        extra = [net.tensor([len(values)], "int32", values) for values in constants]
        net.op(operator, [*net.graph.inputs, *extra], net.graph.outputs, **options)
        path = net.write(tmp_path / "single.tflite")
        found, delegated = invoke(path, inputs)
        assert np.array_equal(found, expected) and delegated == (operator != "AVERAGE_POOL_2D")
        for kernels, shares in apart.items():
            steps = np.abs(invoke(path, inputs, kernels)[0] - expected)
            assert steps.max() <= 1
            shares.append((steps > 0).mean())
    for shares in apart.values():
        assert np.mean(shares) <= APART[operator] and (np.mean(shares) > 0) == (APART[operator] > 0)


def test_a_table_entry_at_a_half_is_the_runtimes(tmp_path):
    """Grids at which one entry lies within float32 steps of a half: the sigmoid is exact, tanh is the C library's."""
    rng, line, apart = np.random.default_rng(0), EVERY.reshape(1, 16, 16, 1), 0
    for number in range(400):
        kind = ("sigmoid", "tanh")[number % 2]
        op = KINDS[kind](Node("x", kind, ("a",)), [1])
        fixed = {"sigmoid": (1 / 256, -128), "tanh": (1 / 128, 0)}[kind]
        half = (rng.integers(1, 120) + 0.5) * fixed[0]
        value = np.log(half / (1 - half)) if kind == "sigmoid" else np.arctanh(half)
        scale = np.nextafter(np.float32(abs(value) / rng.integers(1, 100)), np.float32(rng.integers(2)))
        own = float(scale), int(rng.integers(-28, 28))
        net = Net()
        net.graph.inputs, net.graph.outputs = [net.tensor(line.shape, grid=own)], [net.tensor(line.shape, grid=fixed)]
        net.op(*op.tflite, net.graph.inputs, net.graph.outputs)
        path, integers = net.write(tmp_path / "table.tflite"), torch.from_numpy(line.astype(float))
        expected = op.simulate([integers], [own], fixed).clamp(-128, 127).numpy()
        found = invoke(path, [line])[0]
        if kind == "tanh":
            exact = np.tanh((line - own[1]) * own[0]) / fixed[0]
            near = np.abs(np.abs(exact - np.trunc(exact)) - 0.5) < 2e-5  # float32 steps below 1 are 6e-8, times 128
            assert near.any() and np.array_equal(found[~near], expected[~near]) and np.abs(found - expected).max() <= 1
        else:
            assert np.array_equal(found, expected)
            apart += int((invoke(path, [line], PLAIN[0])[0] != expected).sum())
    assert apart > 20, "TFLite's own kernel rounds such entries otherwise"
