"""What a list of nodes may be: errors, windows against TensorFlow, files, and a new operation in one class."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from imports import closure
from test_operations import TWO, conv, pictures

from edge.errors import UserError
from stages.common import manifest
from stages.graph import operations
from stages.graph.batchnorm import fold, recalibrate
from stages.graph.network import Network, Node, cost
from stages.graph.operations import KINDS, Operation
from stages.graph.prune import prune
from stages.graph.quantize import QuantNetwork

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("nodes", "error"),
    [
        ([Node("a", "gelu", ("input",))], "layer a: gelu can't be quantized; use add, concat, conv, min"),
        ([Node("a", "add", ("input",))], "layer a: add takes 2 inputs, not 1"),
        ([Node("a", "concat", ("input",))], "layer a: concat takes 2 or more inputs, not 1"),
        ([Node("a", "square", ("b",))], "layer a: takes b, which no layer before it gives"),
        ([conv("a", "input"), Node("b", "mul", ("a", "input"))], "layer b: mul of 8 and 3 channels"),
        ([conv("a", "input", 8, depthwise=True)], "layer a: depthwise, but 8 is no multiple of 3 channels"),
        ([conv("a", "input", act="gelu")], "layer a: no activation gelu; use relu6, relu or false"),
        ([Node("a", "pool", ("input",), padding=(1, 1, 1, 1))], "layer a: pool has no padding .*; use same or valid"),
        (
            [*TWO, Node("c", "concat", ("a", "b")), Node("d", "concat", ("c", "a"))],
            "layer d: takes the concat c, which the converter would dissolve",
        ),
    ],
)
def test_a_network_that_cannot_be_is_refused_in_a_line(nodes, error):
    with pytest.raises(UserError, match=f"^{error}") as caught:
        Network(nodes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("nodes", "error"),
    [
        ([conv("a", "input", kernel=9, padding="valid")], "layer a: a window of 9 x 9 does not fit into 8 x 8"),
        (
            [conv("a", "input", 3, stride=2), Node("b", "add", ("a", "input"))],
            r"layer b: its inputs have different sizes \[\(4, 4\), \(8, 8\)\]",
        ),
    ],
)
def test_sizes_that_cannot_be_are_refused_in_a_line(nodes, error):
    with pytest.raises(UserError, match=f"^{error}"):
        Network(nodes).cost(8, 8)


@pytest.mark.parametrize("size", [5, 6, 7, 8, 9])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (2, 1), (3, 2), (3, 3), (5, 1), (5, 4)])
@pytest.mark.parametrize("padding", ["same", "valid", (1, 0, 2, 3)])
def test_window_is_tensorflows(size, kernel, stride, padding):
    import tensorflow as tf

    torch.manual_seed(0)
    node = conv("a", "input", 2, kernel=kernel, stride=stride, padding=padding, norm=False, act=False)
    network, x = Network([node]), torch.rand(1, 3, size, size + 3)
    with torch.no_grad():
        found = network(x).permute(0, 2, 3, 1).numpy()
    values, weight = x.permute(0, 2, 3, 1).numpy(), network.layers["a"].weight.detach().permute(2, 3, 1, 0).numpy()
    if not isinstance(padding, str):
        top, bottom, left, right = padding
        values = np.pad(values, ((0, 0), (top, bottom), (left, right), (0, 0)))
    expected = tf.nn.conv2d(values, weight, stride, padding.upper() if padding == "same" else "VALID")
    np.testing.assert_allclose(found, expected + network.layers["a"].bias.detach().numpy(), atol=1e-5)
    assert cost([node], size, size + 3)["macs"] == found.size * 3 * kernel**2
    if isinstance(padding, str):
        pool = Network([replace(node, kind="pool")])
        with torch.no_grad():
            found = pool(x).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(found, tf.nn.avg_pool2d(values, kernel, stride, padding.upper()), atol=1e-6)
        assert pool.cost(size, size + 3) == {"params": 0, "macs": 0}


def test_files_without_channels_of_the_input_have_three(tmp_path):
    network = Network(
        [conv("a", "input", padding=(1, 2, 0, 0)), Node("b", "square", ("a",), options={"of": ((1, 2), 3)})]
    )
    network.eval().save(tmp_path)
    assert Network.load(tmp_path).nodes == network.nodes
    graph = json.loads((tmp_path / "nodes.json").read_text())
    old = [{k: v for k, v in node.items() if k not in ("padding", "options")} for node in graph["nodes"]]
    (tmp_path / "nodes.json").write_text(json.dumps(old))
    (tmp_path / "manifest.json").unlink()
    manifest.write(tmp_path)
    loaded = Network.load(tmp_path)
    assert loaded.channels == 3 and [n.padding for n in loaded.nodes] == ["same", "same"]


# an operation in one file


def test_every_operation_counts_as_imported():
    """By dvc.yaml's dependency test: a stage that builds networks depends on every kind of node."""
    modules = {f"stages/graph/operations/{path.name}" for path in Path(operations.__file__).parent.glob("*.py")}
    assert modules <= closure("stages.graph.network") and len(modules) == len(KINDS) + 2
    assert not modules & closure("stages.graph.tensors")


@pytest.fixture
def negate():
    """What a new module in stages/graph/operations would hold; forgotten after the test."""

    class Negate(Operation, kind="negate"):
        """-x."""

        tflite = ("NEG",)

        def forward(self, x):
            return -x

        def simulate(self, inputs, grids, grid):
            return torch.round((grids[0][1] - inputs[0]) * (grids[0][0] / grid[0])) + grid[1]

    yield Negate
    del KINDS["negate"]


def test_an_operation_is_one_class(negate, tmp_path):
    """Network, folding, quantization, pruning and saving know it without a change elsewhere."""
    torch.manual_seed(0)
    nodes = [
        conv("a", "input", 32, kernel=3, stride=2),
        Node("n", "negate", ("a",)),
        conv("b", "n", 16),
        conv("out", "b", 2, norm=False, act=False),
    ]
    network, images = Network(nodes), pictures(8, 3, 16, 0)
    x = torch.from_numpy(images).float() / 255
    recalibrate(network, x)
    values = network.activations(x)
    assert torch.equal(values["n"], -values["a"]) and values["a"].std() > 0.1
    torch.testing.assert_close(fold(network)(x), network(x), atol=1e-4, rtol=1e-4)
    model = QuantNetwork.calibrated(fold(network), x)
    scale, zero = model.quantizer("out").scale_zero
    assert model.quantizer("n").range[1] == 0 and model.quantizer("n") is not model.quantizer("a")
    with torch.no_grad():
        apart = (model(x) / scale + zero - model.simulate(torch.from_numpy(images))).abs()
    assert apart.max() < 1.5 and (apart < 0.5).double().mean() > 0.9
    pruned = prune(network, 0.3, x)
    assert pruned.cost(16, 16)["macs"] <= 0.7 * cost(nodes, 16, 16)["macs"] and pruned.layers["a"].out_channels < 32
    pruned.save(tmp_path)
    assert torch.equal(Network.load(tmp_path)(x), pruned(x))
