"""Every kind of node in a small network: its int8 file on the real kernels, its cost, its way through training."""

import pkgutil
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from exporting import distinct_params
from kernels import invoke

from edge.inference.runtimes.onnx import ONNX
from stages.compile import int8, onnx_export, onnx_int8, tflite
from stages.compile.edgetpu.mapping import predict
from stages.detectors.student_network import set_pooling
from stages.graph import operations
from stages.graph.batchnorm import fold, recalibrate
from stages.graph.network import Network, Node
from stages.graph.operations import KINDS
from stages.graph.quantize import QuantNetwork

torch.set_num_threads(1)


def conv(name: str, source: str, channels: int = 8, **rest) -> Node:
    return Node(name, "conv", (source,), channels, **rest)


LINEAR = {"act": False}
TWO = [conv("a", "input", kernel=3, **LINEAR), conv("b", "input", kernel=3, stride=1, **LINEAR)]
LAST = conv("last", "x", 4, **LINEAR)
MEANS = [  # as before the patch embeddings of a student
    conv("a", "input", 16, kernel=3),
    conv("pool_fine", "a", 16, kernel=4, stride=2, depthwise=True, norm=False, **LINEAR),
    conv("pool_deep", "pool_fine", 16, kernel=3, depthwise=True, norm=False, **LINEAR),
    conv("x", "pool_deep", 8, **LINEAR),
]
NETWORKS = {  # name: nodes, channels of the input, its side
    "windows": (
        [
            conv("a", "input", kernel=5, stride=3),
            conv("b", "a", 16, kernel=5, depthwise=True, act="relu"),
            conv("c", "b", 8, kernel=3, padding="valid"),
            conv("d", "c", 8, kernel=4, stride=2, padding=(2, 0, 1, 3), act="relu"),
            conv("e", "d", 8, kernel=2, stride=3, depthwise=True, **LINEAR),
        ],
        8,
        50,
    ),
    "grey": ([conv("a", "input", kernel=3, stride=2), conv("b", "a", **LINEAR)], 1, 17),
    "add": ([*TWO, Node("x", "add", ("a", "b"))], 3, 16),
    "sub": ([*TWO, Node("x", "sub", ("a", "b")), LAST], 3, 16),
    "squared difference": ([*TWO, Node("d", "sub", ("a", "b")), Node("x", "square", ("d",))], 3, 16),
    "mul": ([*TWO, Node("x", "mul", ("a", "b")), LAST], 3, 16),
    "up": ([conv("a", "input", stride=2), Node("x", "up", ("a",)), LAST], 3, 16),
    "resize": (
        [conv("a", "input", kernel=3, **LINEAR), Node("x", "resize", ("a",), options={"size": (23, 23)})],
        3,
        16,
    ),
    "resize to less": ([conv("a", "input"), Node("x", "resize", ("a",), options={"size": (7, 11)}), LAST], 3, 16),
    "resize by 8": (
        [conv("a", "input", kernel=4, stride=4), Node("x", "resize", ("a",), options={"size": (32, 32)}), LAST],
        3,
        16,
    ),
    "resize of four": (
        [
            conv("a", "input", kernel=15, padding="valid", **LINEAR),
            Node("x", "resize", ("a",), options={"size": (9, 5)}),
            LAST,
        ],
        3,
        16,
    ),
    "min": ([conv("a", "input", 16, **LINEAR), Node("x", "min", ("a",))], 3, 16),
    "pool": ([conv("a", "input"), Node("x", "pool", ("a",), kernel=2, stride=2), LAST], 3, 16),
    "pool of odd size": ([conv("a", "input", **LINEAR), Node("x", "pool", ("a",), kernel=3, stride=2)], 3, 18),
    "pool around": ([conv("a", "input", **LINEAR), Node("x", "pool", ("a",), kernel=5), LAST], 3, 16),
    "pool inside": ([conv("a", "input"), Node("x", "pool", ("a",), kernel=3, stride=2, padding="valid")], 3, 16),
    "local means": (MEANS, 3, 16),
    "local means of odd size": (MEANS, 3, 21),
    "concat": ([*TWO, Node("x", "concat", ("a", "b")), LAST], 3, 16),
    "concat of other grids": (  # of the input, of a fixed one, of one that something else reads, of one that is kept
        [
            *TWO,
            Node("s", "sigmoid", ("a",)),
            conv("c", "b", stride=2),
            Node("u", "up", ("c",)),
            conv("d", "input"),
            Node("x", "concat", ("input", "s", "b", "u", "d", "d")),
            LAST,
        ],
        3,
        16,
    ),
    "sigmoid": ([conv("a", "input", **LINEAR), Node("x", "sigmoid", ("a",)), LAST], 3, 16),
    "tanh": ([conv("a", "input", **LINEAR), Node("x", "tanh", ("a",)), LAST], 3, 16),
    "gated": (  # a cell with a state, as a network over frames has
        [
            conv("s", "input", kernel=3, stride=2),
            Node("xs", "concat", ("s", "s")),
            conv("f", "xs", kernel=3, **LINEAR),
            conv("g", "xs", kernel=3, **LINEAR),
            Node("fs", "sigmoid", ("f",)),
            Node("gt", "tanh", ("g",)),
            Node("i", "mul", ("fs", "gt")),
            Node("o", "sub", ("s", "i")),
            Node("ot", "tanh", ("o",)),
            Node("h", "mul", ("ot", "fs")),
            conv("x", "h", 1, **LINEAR),
        ],
        7,
        24,
    ),
}


def pictures(count: int, channels: int, side: int, seed: int) -> np.ndarray:
    """uint8 [count, channels, side, side]: noise, and at the end black, white and stripes."""
    images = np.random.default_rng(seed).integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    images[-3], images[-2], images[-1] = 0, 255, 255 * (np.arange(side) % 2)
    return images


@pytest.fixture(scope="module", params=NETWORKS)
def built(request, tmp_path_factory):
    """The network with random weights, quantized, and the files that it becomes."""
    nodes, channels, side = NETWORKS[request.param]
    folder = tmp_path_factory.mktemp("built")
    torch.manual_seed(0)
    network, images = Network(nodes, channels), pictures(8, channels, side, 1)
    set_pooling(network)
    recalibrate(network, torch.from_numpy(images[:5]).float() / 255)
    folded = fold(network)
    model = QuantNetwork.calibrated(folded, torch.from_numpy(images).float() / 255)
    graph = onnx_export.export(folded, (side, side), folder / "model.onnx", folded.heads, channels)
    float_path = tflite.to_tflite(folder / "model.onnx", folder)
    image = images[:1].transpose(0, 2, 3, 1).astype(np.float32) / 255
    names = tflite.match_tensors(float_path, folded, image)
    int8.quantize(float_path, folder / "int8.tflite", model, names)
    return SimpleNamespace(
        name=request.param,
        model=model,
        network=network,
        float_path=float_path,
        path=folder / "int8.tflite",
        onnx=folder / "model.onnx",
        graph=graph,
        images=pictures(24, channels, side, 2),
    )


def run(path, images: np.ndarray, kernels: str = "AUTO") -> np.ndarray:
    """What the file says of uint8 images [N, C, H, W]: int8 [N, C, h, w]."""
    inputs = [(image.transpose(1, 2, 0)[None].astype(int) - 128).astype(np.int8) for image in images]
    return np.concatenate([invoke(path, [x], kernels)[0] for x in inputs]).transpose(0, 3, 1, 2)


# the networks


def test_every_kind_is_in_a_network():
    modules = {module.name for module in pkgutil.iter_modules(operations.__path__)} - {"base"}
    tested = {node.kind for nodes, *_ in NETWORKS.values() for node in nodes}
    assert set(KINDS) == modules == tested | {"state"}  # which has tests/test_streaming.py


def test_simulation_is_the_int8_file_to_the_bit(built):
    expected = built.model.simulate(torch.from_numpy(built.images)).numpy()
    assert len(np.unique(expected)) > 80
    assert np.array_equal(run(built.path, built.images), expected)


def test_fake_quantization_is_the_simulation(built):
    """Each node gets the integers of the simulation, so that one rounding does not grow through the network."""
    model, images = built.model, torch.from_numpy(built.images)
    integers = model.integers(images)
    grids = {name: model.quantizer(name).scale_zero for name in integers}
    values = {name: ((x - grids[name][1]) * grids[name][0]).float() for name, x in integers.items()}
    for node in model.network.nodes:
        quantizers = [model.quantizer(name) for name in node.inputs]
        with torch.no_grad():
            found = model.network.ops[node.name].quantized([values[name] for name in node.inputs], quantizers)
            found = model.quantizer(node.name)(found)
        steps = (found / grids[node.name][0] + grids[node.name][1]).double().round()
        apart = (steps - integers[node.name]).abs()
        # a joined grid makes an input rounded to 8 binary places: more often the neighbour, no further
        most = 0.2 if model.network.ops[node.name].joins_grids else 0.01
        assert apart.max() <= 1 and (apart > 0).double().mean() <= most, node.name


def test_training_reaches_every_weight(built):
    built.model.train().zero_grad()
    built.model(torch.from_numpy(built.images).float() / 255).square().sum().backward()
    for name, parameter in built.model.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().sum() > 0, name
    built.model.eval()


def test_first_ranges_of_training_are_those_of_calibration(built):
    """One batch of training observes each grid where calibration does, except for what a minimum leaves out."""
    images = torch.from_numpy(built.images).float() / 255
    trained, calibrated = (
        QuantNetwork(built.model.network).train(),
        QuantNetwork.calibrated(built.model.network, images),
    )
    with torch.no_grad():
        trained(images)
    assert trained.quant.keys() == calibrated.quant.keys()
    for name in trained.quant.keys() - calibrated.seen.keys():
        found, wanted = (model.quant[name].range.tolist() for model in (trained, calibrated))
        assert found == pytest.approx(wanted, abs=0.05 * (wanted[1] - wanted[0])), name


def test_folding_and_saving_keep_the_function(built, tmp_path):
    images = torch.from_numpy(built.images).float() / 255
    built.network.save(tmp_path)
    loaded = Network.load(tmp_path)
    assert loaded.nodes == built.network.nodes and loaded.channels == built.network.channels
    with torch.inference_mode():
        expected = built.network(images)
        assert torch.equal(loaded(images), expected)
        torch.testing.assert_close(built.model.network(images), expected, atol=1e-4, rtol=1e-4)


def test_cost_is_the_one_that_the_file_shows(built):
    """Read from the TFLite file: every weight is used once per output position, of a depthwise one per channel."""
    size = built.images.shape[-2:]
    for path in (built.float_path, built.path):
        interpreter = tflite.open_interpreter(path)
        shapes = {t["index"]: t["shape"].astype(int) for t in interpreter.get_tensor_details()}
        macs, params = 0, 0
        for op in tflite.operations(interpreter):
            if "CONV_2D" in op["op_name"]:
                weight, bias = (shapes[i] for i in op["inputs"][1:])
                _, height, width, channels = shapes[op["outputs"][0]]
                per_output = weight[1:3].prod() * (1 if op["op_name"].startswith("DEPTHWISE") else weight[3])
                macs, params = macs + height * width * channels * per_output, params + weight.prod() + bias.prod()
        assert built.network.cost(*size) == {"params": params, "macs": macs}
    assert onnx_export.cost(built.graph) == {"params": distinct_params(built.model.network), "macs": macs}
    assert distinct_params(built.model.network) == params - (16 if "local means" in built.name else 0)


def test_the_edge_tpu_takes_every_operator_by_prediction(built):
    placed = predict(built.path)
    assert [p.reason for p in placed if not p.mapped] == []


def test_the_onnx_file_has_the_same_grids(built, tmp_path):
    """onnxruntime rounds otherwise, which the networks enlarge a little."""
    onnx_int8.quantize(built.onnx, tmp_path / "int8.onnx", built.model)
    session = ONNX(onnxruntime, tmp_path / "int8.onnx", 1)  # with exact sums, also on a processor without VNNI
    head = built.model.network.heads[0]
    scale, zero = built.model.quantizer(head).scale_zero
    inputs = built.images.astype(np.float32) / 255
    found = np.concatenate([session.invoke([image[None]], [0])[0] for image in inputs]) / scale + zero
    apart = np.abs(np.rint(found) - built.model.simulate(torch.from_numpy(built.images)).numpy())
    assert (apart <= 1).mean() > 0.97
