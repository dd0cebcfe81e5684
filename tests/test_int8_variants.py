"""Int8 files other than the quantization-aware TFLite one: post-training TFLite, ONNX in QDQ form, OpenVINO."""

from functools import cache
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import openvino
import pytest
import torch
from exporting import export
from students import body, with_bank

from edge.errors import UserError
from edge.inference.detector import load
from edge.inference.modelfile import ModelError
from stages.compile import __main__ as compile_stage
from stages.compile import fidelity, onnx_int8
from stages.detectors.quantized_student import QuantizedStudent
from stages.detectors.student import Student
from stages.graph.batchnorm import fold
from stages.graph.bias_correction import correct_biases
from stages.graph.quantize import QuantNetwork
from stages.graph.ranges import narrow_ranges
from stages.graph.tensors import to_tensor

pytestmark = pytest.mark.slow

SIZE = 64
LIMITS = SimpleNamespace(exact=0.99, within_1=1.0)


def pictures(count: int, seed: int) -> np.ndarray:
    """Smooth pictures: noise drives an untrained network to ranges that no picture of it has."""
    rng = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(rng.random((SIZE, SIZE, 3), np.float32), (0, 0), 3) for _ in range(count)]
    return np.stack([cv2.normalize(one, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8) for one in noise])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The folder of the exported files."""
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("variants")


@cache
def made(name: str):
    """A random student as compress leaves it: pruned in float, or on learned ranges."""
    torch.manual_seed(3)
    student = with_bank(body(0.25), pictures(8, 0))
    if name == "pruned":
        return Student(student, {})
    return QuantizedStudent(QuantNetwork.calibrated(fold(student), to_tensor(pictures(8, NAMES[name]))), trained=True)


NAMES = {"qat": 1, "pruned-qat": 9}  # the seeds of the pictures that their ranges are of


@cache
def exported(root, model: str, form: str, precision: str):
    return export(made(model), form, precision, root / model, pictures(8, 1))


def opened(root, model: str, form: str, precision: str = "int8"):
    """The variant opened as a device opens it, and what it must compute."""
    build, detector = exported(root, model, form, precision)
    return detector, build.quantized


def test_calibration_spans_what_the_float_network_computes():
    torch.manual_seed(4)
    student = fold(with_bank(body(0.25), pictures(8, 0)))
    images = pictures(20, 5)
    model = QuantNetwork.calibrated(student, to_tensor(images))
    with torch.inference_mode():
        values = [student.activations(to_tensor(image[None])) for image in images]
    for name, quant in model.quant.items():
        if name == "input":
            assert quant.range.tolist() == [0, 1]
            continue
        seen = name.replace("bank", "nearest")  # larger values are in no minimum
        low, high = (float(pick([pick(v[seen].numpy().ravel()) for v in values])) for pick in (min, max))
        assert quant.range.tolist() == pytest.approx([low, high], rel=1e-4, abs=1e-5), name
        assert not quant.observe


def test_tflite_files_compute_what_was_quantized(root):
    for model in ("pruned", "qat"):
        detector, network = opened(root, model, "tflite")
        record = fidelity.check(detector, network, pictures(8, 2), SimpleNamespace(exact=0.98, within_1=0.999))
        assert record["max_lsb"] <= 2
        ranges = detector.info.quantization.ranges
        assert ranges.startswith("learned" if model == "qat" else "post-training")


def test_calibration_pictures_have_defects_that_good_ones_lack(monkeypatch, tmp_path):
    """Of even pictures, only a pasted defect has edges: every second one, though not each shows on them."""
    seen, plain = [], np.full((40, SIZE, SIZE, 3), 120, np.uint8)

    class Stop:
        def __init__(self, detector, name, form, precision, samples, *_):
            seen.append(samples)
            raise InterruptedError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compile_stage, "read_index", lambda *_: [SimpleNamespace(clip="")] * 40)
    for reader in ("load_samples", "load_pictures"):
        monkeypatch.setattr(compile_stage, reader, lambda _, index, spec: plain[: len(index)])
    monkeypatch.setattr(compile_stage, "load", lambda _: SimpleNamespace(supervised=False))
    monkeypatch.setattr(compile_stage, "Build", Stop)
    compile_params = SimpleNamespace(
        calibration_images=32, fidelity=SimpleNamespace(images=40), edgetpu_compiler=None, embedding=0
    )
    variants = SimpleNamespace(ptq=SimpleNamespace(model="student", format="tflite", precision="int8"))
    params = SimpleNamespace(seed=0, threads=1, input=None, compile=compile_params, variants=variants)
    with pytest.raises(InterruptedError):
        compile_stage.compile_variant(params, "ptq")
    edges = [int(image.std() > 0.5) for image in seen[0]]
    assert len(edges) == 32 and edges[::2] == [0] * 16 and sum(edges[1::2]) >= 5


@pytest.mark.parametrize("name", list(NAMES))
def test_learned_ranges_are_kept(root, name):
    build, _ = exported(root, name, "tflite", "int8")
    assert build.quantization()["ranges"] == "learned by quantization-aware training"
    expected = QuantNetwork.calibrated(fold(made("pruned").network), to_tensor(pictures(8, NAMES[name])))
    assert all(build.quantized.quant[k].range.tolist() == q.range.tolist() for k, q in expected.quant.items())


def test_post_training_ranges_come_from_the_given_pictures(root):
    """And so do corrected biases; the student itself stays as it was."""
    before = {name: value.clone() for name, value in made("pruned").network.state_dict().items()}
    build, _ = exported(root, "pruned", "tflite", "int8")
    assert build.quantization()["ranges"].startswith("post-training: smallest and largest values on 8 training")
    expected = QuantNetwork.calibrated(fold(made("pruned").network), to_tensor(pictures(8, 1)))
    narrow_ranges(expected, to_tensor(pictures(8, 1)))
    assert {k: v.range.tolist() for k, v in build.quantized.quant.items()} == {
        k: v.range.tolist() for k, v in expected.quant.items()
    }
    correct_biases(expected, to_tensor(pictures(8, 1)))
    plain = fold(made("pruned").network)
    for name, layer in build.quantized.network.layers.items():
        assert torch.equal(layer.bias, expected.network.layers[name].bias), name
        assert torch.equal(layer.weight, plain.layers[name].weight), name
    assert any(not torch.equal(layer.bias, plain.layers[name].bias) for name, layer in build.network.layers.items())
    after = made("pruned").network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_onnx_int8_is_the_same_network(root):
    """Its kernels round otherwise, which an untrained network enlarges; overflowing sums would leave no likeness."""
    detector, network = opened(root, "qat", "onnx")
    graph = onnx.load(detector.info.path)
    weights = [t for t in graph.graph.initializer if t.name.endswith("weight_quantized")]
    assert len(weights) == sum(n.kind == "conv" for n in network.network.nodes)
    assert {t.data_type for t in weights} == {onnx.TensorProto.INT8}
    kinds = {node.op_type for node in graph.graph.node}
    computing = {"Conv", "Add", "Mul", "ReduceMin", "Resize"}
    assert kinds == computing | {"QuantizeLinear", "DequantizeLinear", "Constant"}, kinds
    images = pictures(8, 6)
    found, wanted = fidelity.device_outputs(detector, images), fidelity.simulated(network, images, ["score"])
    assert wanted.std() > 10 and np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99
    with pytest.raises(UserError, match=r"within_1 = .*onnxruntime CPUExecutionProvider"):
        fidelity.check(detector, QuantNetwork.calibrated(network.network, to_tensor(images) * 0.5), images, LIMITS)


def test_openvino_float_is_the_onnx_file(root):
    ours, _ = opened(root, "pruned", "openvino", "float32")
    theirs, _ = opened(root, "pruned", "onnx", "float32")
    assert set(ours.info.files) == {"model.xml", "model.bin"}
    assert ours.info.size_bytes > theirs.info.size_bytes * 0.9
    for image in pictures(3, 7):
        assert np.shares_memory(ours.prepare(image), image), "the bytes go in as they are"
        np.testing.assert_allclose(ours.predict(image).map, theirs.predict(image).map, atol=1e-4)


def test_openvino_int8_has_the_grids_and_is_recorded_but_not_held(root):
    detector, network = opened(root, "qat", "openvino")
    images = pictures(8, 8)
    record = fidelity.check(detector, network, images, LIMITS)
    assert record["kernel"].startswith("openvino CPU") and 0 < record["exact"] <= 1
    found, wanted = fidelity.device_outputs(detector, images), fidelity.simulated(network, images, ["score"])
    assert wanted.std() > 10 and np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.9  # 0.44 where sums overflow
    build, _ = exported(root, "qat", "openvino", "int8")
    steps = []
    for op in openvino.convert_model(build.work / "int8.onnx").get_ops():  # which openvino_steps changes then
        if op.get_type_name() == "FakeQuantize":
            low, high = (float(op.input_value(i).get_node().get_data().item()) for i in (1, 2))
            steps.append((high - low) / 255)
    scales = [quant.scale_zero[0] for quant in network.quant.values()]
    assert {f"{step:.5g}" for step in steps} == {f"{scale:.5g}" for scale in scales}


def test_the_file_for_tensorrt_is_symmetric(root):
    """What TensorRT takes: zero points of 0, Q/DQ pairs on activations and weights, float biases, on ranges that hold
    those of the network. Its grids are other ones, so it is recorded but not held."""
    detector, network = opened(root, "qat", "tensorrt")
    assert detector.info.tensorrt.precision == "int8" and detector.info.format == "onnx"
    graph = onnx.load(detector.info.path).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = {node.output[0]: node for node in graph.node}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in pairs:
        assert values[node.input[2]].dtype == np.int8 and not values[node.input[2]].any()
        assert node.op_type == "QuantizeLinear" or nodes[node.input[0]].op_type == "QuantizeLinear"
    for conv in (node for node in graph.node if node.op_type == "Conv"):
        assert [nodes[name].op_type for name in conv.input[:2]] == ["DequantizeLinear"] * 2
        assert values[conv.input[2]].dtype == np.float32
    scales = {f"{values[node.input[1]].item():.5g}" for node in pairs if values[node.input[1]].ndim == 0}
    wanted = [np.abs(quant.range.numpy()).max() / 127 for quant in network.quant.values()]
    assert len(scales) > 5
    for scale in scales:  # the range [low, high] lies on the grid's steps, half a step at most beyond
        assert any(abs(float(scale) / one - 1) < 0.01 for one in wanted), scale
    images = pictures(8, 6)
    found, integers = fidelity.device_outputs(detector, images), fidelity.simulated(network, images, ["score"])
    plain, real = (opened(root, *how)[0] for how in (("qat", "onnx"), ("pruned", "onnx", "float32")))
    maps = [np.stack([one.predict(image).raw_map for image in images]).ravel() for one in (detector, plain, real)]
    ours, theirs = (np.corrcoef(map, maps[2])[0, 1] for map in maps[:2])  # with the float network
    assert theirs > 0.8 and ours > theirs - 0.06 and np.corrcoef(found.ravel(), integers.ravel())[0, 1] > 0.8
    assert 0 <= fidelity.check(detector, network, images, LIMITS)["within_1"] < 1


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_float_file_for_tensorrt_is_the_onnx_file(root, precision):
    ours, theirs = (opened(root, "pruned", *how)[0].info for how in (("tensorrt", precision), ("onnx", "float32")))
    assert ours.sha256 == theirs.sha256 and ours.tensorrt.precision == precision and set(ours.files) == {"model.onnx"}


def test_changed_openvino_weights_are_noticed(root):
    detector, _ = opened(root, "pruned", "openvino", "float32")
    file = detector.info.folder / "model.bin"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelError, match="content differs from sha256"):
        load(detector.info.folder)
    file.write_bytes(data)


def test_a_graph_without_a_node_is_refused(root):
    build, _ = exported(root, "qat", "onnx", "int8")
    network, graph = build.quantized, onnx.load(build.float_onnx)
    next(op for op in graph.graph.node if op.output[0].startswith("/neck/")).output[0] = "renamed"
    graph.graph.node.remove(next(op for op in graph.graph.node if op.output[0].startswith("/neck/Clip")))
    with pytest.raises(UserError, match=r"no tensor of the nodes \['neck'\]"):
        onnx_int8.tensor_nodes(graph, network)
