"""The int8 TFLite file of one tiny student against the network with fake quantization that it was made of."""

import collections
import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exporting import noise, random_student

from edge.errors import UserError
from stages.compile import fidelity, int8, tflite
from stages.compile.edgetpu import variant as edgetpu
from stages.graph.network import Network
from stages.graph.tensors import to_tensor

torch.set_num_threads(1)
INTEGER_OPS = {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MUL", "REDUCE_MIN", "RESIZE_BILINEAR", "PAD"}  # of the student


@pytest.fixture(scope="module")
def built():
    return random_student()


def test_int8_file_is_all_integer(built):
    interpreter = tflite.open_interpreter(built.int8_path)
    operations = tflite.operations(interpreter)
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    count = collections.Counter(op["op_name"] for op in operations)
    assert set(count) <= INTEGER_OPS, count
    nodes = built.folded.nodes
    assert count["CONV_2D"] == sum(n.kind == "conv" and not n.depthwise for n in nodes)
    assert count["DEPTHWISE_CONV_2D"] == sum(n.depthwise for n in nodes)
    for kind, operation in (("add", "ADD"), ("up", "RESIZE_BILINEAR"), ("square", "MUL"), ("min", "REDUCE_MIN")):
        assert count[operation] == sum(n.kind == kind for n in nodes) > 0, kind
    for op in operations:
        for index in op["outputs"]:
            assert tensors[index]["dtype"] == np.int8, op["op_name"]
        if "CONV_2D" in op["op_name"]:
            assert [tensors[i]["dtype"] for i in op["inputs"]] == [np.int8, np.int8, np.int32]
    entry, leave = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert entry["dtype"] == leave["dtype"] == np.int8
    assert entry["quantization"] == (pytest.approx(1 / 255), -128)


def test_int8_grids_and_weights_are_the_trained_ones(built):
    interpreter = tflite.open_interpreter(built.int8_path)
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    seen = set()
    for op in tflite.operations(interpreter):
        output = tensors[op["outputs"][0]]
        if op["op_name"] == "PAD":
            assert output["quantization"] == tensors[op["inputs"][0]]["quantization"]
            continue
        node = built.names[output["name"]]
        seen.add(node)
        low, high = built.model.quantizer(node).range.tolist()
        scale, zero = output["quantization"]
        assert scale == pytest.approx((max(high, 0) - min(low, 0)) / 255, rel=1e-5), node
        assert zero == round(-128 - min(low, 0) / scale), node
        if "CONV_2D" not in op["op_name"]:
            continue
        conv = built.folded.ops[node].conv
        weight = conv.weight.detach().numpy()
        step = np.abs(weight).max(axis=(1, 2, 3)) / 127
        integers = np.rint(weight / step[:, None, None, None])
        axes = (1, 2, 3, 0) if op["op_name"] == "DEPTHWISE_CONV_2D" else (0, 2, 3, 1)
        assert np.array_equal(interpreter.get_tensor(op["inputs"][1]), integers.transpose(axes)), node
        in_scale = tensors[op["inputs"][0]]["quantization"][0]
        bias = conv.bias.detach().numpy() / (in_scale * step)
        assert np.abs(interpreter.get_tensor(op["inputs"][2]) - bias).max() <= 1.01, node
    assert seen == {n.name for n in built.folded.nodes}


@pytest.fixture(scope="module")
def detector(built):
    """The int8 folder opened as a device opens it."""
    return built.device


def test_device_agrees_with_the_trained_network(built, detector):
    """To the step with integer arithmetic; a random network is too unstable for that with fake quantization."""
    images = noise(8, 9)
    with torch.inference_mode():
        simulated = built.model.simulate(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
        expected = built.model(to_tensor(images))[:, 0].numpy()
    raw = np.stack([detector.invoke(detector.prepare(image))[0] for image in images])
    steps = np.abs(raw.reshape(8, -1).astype(int) - simulated.reshape(8, -1))
    assert simulated.std() > 20 and (steps == 0).mean() >= 0.99 and (steps <= 1).mean() >= 0.999
    limits = SimpleNamespace(exact=0.99, within_1=0.999)
    record = fidelity.check(detector, built.model, images, limits)
    assert record["exact"] == pytest.approx((steps == 0).mean()) and record["max_lsb"] == steps.max()
    assert record["images"] == 8 and record["kernel"] == "ai_edge_litert XNNPACK"
    assert 0 < record["reference_kernels"]["exact"] < 1  # they round otherwise
    found = np.stack([detector.judge(image).raw_map for image in images])
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_a_file_outside_the_limits_is_refused(built, detector):
    images, other = noise(4, 10), copy.deepcopy(built.model)
    other.network.ops["mask"].conv.bias.data += 3 * other.quant["score"].scale_zero[0]  # three steps off
    with pytest.raises(
        UserError, match=r"exact = .*largest difference \d+ LSB, .*XNNPACK.*at least 99.0000% must hold"
    ):
        fidelity.check(detector, other, images, SimpleNamespace(exact=0.99, within_1=1.0))
    with pytest.raises(UserError, match=r"within_1 = .*at least 90.0000% must hold"):
        fidelity.check(detector, other, images, SimpleNamespace(exact=0.0, within_1=0.9))


def test_difference_counts_steps():
    found = np.array([[0, 1, -128, 127], [5, 5, 5, 5]], np.int8)
    wanted = np.array([[0, 0, -125, 127], [5, 5, 5, 6]], np.float64)
    assert fidelity.difference(found, wanted) == {"exact": 5 / 8, "within_1": 7 / 8, "max_lsb": 3}


def test_a_grid_that_was_not_trained_is_refused(built):
    other = copy.deepcopy(built.model)
    other.quant["b4_add"].range *= 1.01
    with pytest.raises(UserError, match="b4_add was given the grid"):
        int8.check_grids(built.int8_path, other, built.names)
    with pytest.raises(UserError, match="not all integer"):
        int8.check_grids(built.float_path, built.model, built.names)
    with pytest.raises(UserError, match=r"no tensor carries the range of \['gone'\]"):
        int8.check_grids(built.int8_path, built.model, built.names | {"nowhere": "gone"})


def test_a_layer_that_cannot_be_quantized_is_named(built, tmp_path):
    """A network with a node of an unknown kind, before it is trained, and a file with a GELU in it."""
    nodes = [replace(n, kind="gelu") if n.name == "b4_add" else n for n in built.folded.nodes]
    with pytest.raises(UserError, match=r"^layer b4_add: gelu can't be quantized; use add, "):
        Network(nodes)
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 4))])
    def network(x):
        return tf.nn.gelu(x, name="b3_gelu")

    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
    path = tmp_path / "gelu.tflite"
    path.write_bytes(converter.convert())
    interpreter = tflite.open_interpreter(path)
    (writes,) = tflite.operations(interpreter)[-1]["outputs"]
    tensor = next(t["name"] for t in interpreter.get_tensor_details() if t["index"] == writes)
    with pytest.raises(UserError, match=r"^layer b3_gelu: \w+ can't be quantized; build the network from ADD, "):
        int8.quantize(path, tmp_path / "int8.tflite", built.model, {tensor: "b3_gelu"})
    assert not (tmp_path / "int8.tflite").exists()


def test_the_edge_tpu_maps_the_student_wholly_by_prediction(built, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no compiler
    record = edgetpu.build(built.int8_path, tmp_path, None)
    assert (record["how"], record["cpu"], record["subgraphs"]) == ("predicted", [], 1)
    assert record["mapped"] == record["ops"] == len(built.folded.nodes)
