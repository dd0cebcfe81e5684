"""The exported files of one tiny student against the network they come from."""

import collections
import copy
import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exporting import export
from students import with_bank

from edge.errors import UserError
from stages.compile import fidelity, int8, onnx_export, tflite
from stages.compile.edgetpu import variant as edgetpu
from stages.compile.validation import validate
from stages.detectors.base import Detector, Export
from stages.detectors.memory_bank import without_bank
from stages.detectors.quantized_student import QuantizedStudent
from stages.detectors.student import Student
from stages.detectors.student_network import EMBEDDING, architecture
from stages.graph.batchnorm import fold
from stages.graph.network import Network, Node
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor

torch.set_num_threads(1)
SIZE = 64
INTEGER_OPS = {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MUL", "REDUCE_MIN", "RESIZE_BILINEAR", "PAD"}  # of the student


def pictures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The int8 variant of a random student, made as the stage makes it, and what it was made from."""
    root = tmp_path_factory.mktemp("compile")
    torch.manual_seed(1)
    student = with_bank(Network(architecture(0.25)), pictures(4, 0))
    model = QuantNetwork(fold(student)).train()
    with torch.no_grad():
        model(to_tensor(pictures(4, 0)))
    model.freeze_ranges()
    detector = QuantizedStudent(model.eval())
    int8_build, device = export(detector, "tflite", "int8", root, pictures(1, 2))
    float_build, _ = export(detector, "onnx", "float32", root, pictures(1, 2))
    float_path, folded = int8_build.work / "converted/model_float32.tflite", int8_build.network
    return SimpleNamespace(
        root=root,
        model=model,
        folded=folded,
        device=device,
        int8_build=int8_build,
        float_build=float_build,
        float_path=float_path,
        int8_path=device.info.path,
        names=tflite.match_tensors(float_path, folded, pictures(1, 3).astype(np.float32) / 255),
    )


def run(path: Path, image: np.ndarray):
    """The interpreter after one inference."""
    interpreter = tflite.open_interpreter(path)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter


# the float files


def test_float_file_computes_what_the_network_does(built):
    for image in pictures(3, 5):
        interpreter = run(built.float_path, image[None].astype(np.float32) / 255)
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        with torch.inference_mode():
            expected = built.folded(to_tensor(image[None])).permute(0, 2, 3, 1).numpy()
        assert expected.std() > 0.05
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_onnx_file_computes_what_the_network_does(built):
    session = onnxruntime.InferenceSession(built.float_build.folder / "model.onnx", providers=["CPUExecutionProvider"])
    for image in pictures(3, 6):
        batch = to_tensor(image[None]).contiguous()
        with torch.inference_mode():
            expected = built.folded(batch).numpy()
        np.testing.assert_allclose(session.run(None, {"image": batch.numpy()})[0], expected, atol=1e-4)
    assert [(o["height"], o["width"]) for o in built.float_build.outputs(False)] == [(SIZE // 8, SIZE // 8)]


def test_every_tensor_is_matched_with_its_node(built):
    nodes = [n.name for n in built.folded.nodes]
    assert sorted(built.names.values()) == sorted(["input", *nodes])
    interpreter = run(built.float_path, pictures(1, 7).astype(np.float32) / 255)
    index = {t["name"]: t["index"] for t in interpreter.get_tensor_details()}
    with torch.inference_mode():
        values = built.folded.activations(to_tensor(pictures(1, 7)))
    for tensor, node in built.names.items():  # on another picture than the one they were matched with
        expected = values[node].permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(interpreter.get_tensor(index[tensor]), expected, atol=1e-4 * np.abs(expected).max())


def swapped(student: Network) -> Network:
    """The same function with two inner channels in the other order."""
    other = copy.deepcopy(student)
    order = torch.arange(other.ops["b1_expand"].conv.out_channels)
    order[[3, 17]] = order[[17, 3]]
    for name in ("b1_expand", "b1_depth"):
        conv = other.ops[name].conv
        conv.weight.data, conv.bias.data = conv.weight.data[order], conv.bias.data[order]
    other.ops["b1_project"].conv.weight.data = other.ops["b1_project"].conv.weight.data[:, order]
    return other


def test_a_wrong_order_of_channels_is_refused(built):
    other, image = swapped(built.folded), pictures(1, 8)
    with torch.inference_mode():
        torch.testing.assert_close(other(to_tensor(image)), built.folded(to_tensor(image)), atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="no tensor of the network; the converter changed its layout or order"):
        tflite.match_tensors(built.float_path, other, image.astype(np.float32) / 255)


def test_a_transposed_kernel_is_refused(built):
    other = copy.deepcopy(built.folded)
    weight = other.ops["b9_depth"].conv.weight.data
    weight.copy_(weight.transpose(2, 3).clone())
    with pytest.raises(UserError, match="no tensor of the network"):
        tflite.match_tensors(built.float_path, other, pictures(1, 8).astype(np.float32) / 255)


def test_a_file_that_lacks_a_node_is_refused(built):
    other = Network([*built.folded.nodes, Node("more", "conv", ("neck",), 8, norm=False)])
    other.load_state_dict(built.folded.state_dict(), strict=False)
    with pytest.raises(UserError, match=r"lacks \['more'\]"):
        tflite.match_tensors(built.float_path, other.eval(), pictures(1, 8).astype(np.float32) / 255)


# cost


def counted(student: Network) -> dict[str, int]:
    """Parameters and multiply-accumulates from torch's modules: every weight is used once per output position."""
    macs = []

    def hook(module, _, output):
        macs.append(output.shape[-2] * output.shape[-1] * module.weight.numel())

    student = copy.deepcopy(student)
    for module in student.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(hook)
    student(torch.zeros(1, 3, SIZE, SIZE))
    return {"params": sum(p.numel() for p in student.parameters()), "macs": sum(macs)}


def test_cost_of_every_file_is_the_count_from_the_modules(built):
    expected = counted(built.folded)
    assert expected["params"] > 10_000 and expected["macs"] > 1_000_000
    assert built.folded.cost(SIZE, SIZE) == built.int8_build.cost() == built.float_build.cost() == expected
    assert onnx_export.cost(onnx.load(built.float_build.folder / "model.onnx")) == expected


def test_cost_of_matrix_products(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Flatten(), torch.nn.Linear(64 * 4, 5))
    graph = onnx_export.export(model.eval(), SIZE, tmp_path / "model.onnx", ["out"])
    macs = 64 * 4 * 3 * 64 + 64 * 4 * 5
    assert onnx_export.cost(graph) == {"params": sum(p.numel() for p in model.parameters()), "macs": macs}


# the int8 file


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
    images = pictures(8, 9)
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
    images, other = pictures(4, 10), copy.deepcopy(built.model)
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
    nodes = [replace(n, kind="gelu") if n.name == "b4_add" else n for n in architecture(0.25)]
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


def test_validation_is_the_quantile_of_the_scores_and_their_auroc():
    """A detector that says 0 to 9 of ten good pictures and 4.5 of every defect: half of them are below it."""
    values = itertools.chain(np.arange(10.0), itertools.repeat(4.5))
    detector = SimpleNamespace(predict=lambda image: SimpleNamespace(score=next(values)))
    found = validate(detector, pictures(10, 0), 0.9, 0)
    assert found["threshold"]["value"] == pytest.approx(8.1)
    assert found["threshold"]["method"] == "0.9 quantile of 10 good validation scores"
    assert found["validation"] == {"auroc": 0.5, "good": 10, "cutpaste": 100}


@pytest.mark.parametrize(("form", "precision"), [("tflite", "int8"), ("tflite", "float32"), ("onnx", "int8")])
def test_a_second_output_reaches_the_device(form, precision, tmp_path):
    """Map and patch embeddings from one file: what `edge` returns is what the network computes, int8 to the bit."""
    torch.manual_seed(2)
    network = fold(without_bank(with_bank(Network(architecture(0.25)), pictures(4, 0))))

    class Both(Student):
        kind = "both"

        def export(self):
            return Export(network, {"mask": "map", "embed": "embedding"})

    Detector.kinds.pop("both")
    build, device = export(Both(network, {}), form, precision, tmp_path, pictures(4, 1))
    assert [(o["name"], o["meaning"], o["channels"]) for o in build.outputs(False)] == [
        ("mask", "map", 1),
        ("embed", "embedding", EMBEDDING),
    ]
    for image in pictures(3, 4):
        found = device.predict(image)
        with torch.inference_mode():
            mask, embedding = (part[0].permute(1, 2, 0).numpy() for part in network(to_tensor(image[None])))
        assert found.raw_map.shape == mask.shape[:2] and found.embedding.shape == embedding.shape
        likeness = [
            np.corrcoef(a.ravel(), b.ravel())[0, 1]
            for a, b in ((found.raw_map, mask[..., 0]), (found.embedding, embedding))
        ]
        assert min(likeness) > (0.9 if precision == "int8" else 0.999999), likeness
    if (form, precision) == ("tflite", "int8"):
        record = fidelity.check(device, build.quantized, pictures(4, 5), SimpleNamespace(exact=1.0, within_1=1.0))
        assert set(record["reference_kernels"]) == {"exact", "within_1", "max_lsb"}
