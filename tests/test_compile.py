"""The exported float files of one tiny student against the network they come from, their cost and their threshold."""

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exporting import SIZE, distinct_params, export, noise, random_student
from students import body, with_bank

from edge.errors import UserError
from stages.compile import fidelity, onnx_export, tflite
from stages.compile.validation import validate
from stages.detectors.base import Detector, Export
from stages.detectors.memory_bank import part
from stages.detectors.student import Student
from stages.detectors.student_network import EMBEDDING
from stages.graph.batchnorm import fold
from stages.graph.network import Network, Node
from stages.graph.tensors import to_tensor
from stages.training import validation_defects

torch.set_num_threads(1)
PICTURES = SimpleNamespace(state=())  # what is asked of a model.json: whether frames must go in one by one


@pytest.fixture(scope="module")
def built():
    return random_student()


def run(path: Path, image: np.ndarray):
    """The interpreter after one inference."""
    interpreter = tflite.open_interpreter(path)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter


# the float files


def test_float_file_computes_what_the_network_does(built):
    for image in noise(3, 5):
        interpreter = run(built.float_path, image[None].astype(np.float32) / 255)
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        with torch.inference_mode():
            expected = built.folded(to_tensor(image[None])).permute(0, 2, 3, 1).numpy()
        assert expected.std() > 0.05
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_onnx_file_computes_what_the_network_does(built):
    session = onnxruntime.InferenceSession(built.float_build.folder / "model.onnx", providers=["CPUExecutionProvider"])
    for image in noise(3, 6):
        batch = to_tensor(image[None]).contiguous()
        with torch.inference_mode():
            expected = built.folded(batch).numpy()
        np.testing.assert_allclose(session.run(None, {"image": batch.numpy()})[0], expected, atol=1e-4)
    assert [(o["height"], o["width"]) for o in built.float_build.outputs(False)] == [(SIZE // 8, SIZE // 8)]


def test_every_tensor_is_matched_with_its_node(built):
    nodes = [n.name for n in built.folded.nodes]
    assert sorted(built.names.values()) == sorted(["input", *nodes])
    interpreter = run(built.float_path, noise(1, 7).astype(np.float32) / 255)
    index = {t["name"]: t["index"] for t in interpreter.get_tensor_details()}
    with torch.inference_mode():
        values = built.folded.activations(to_tensor(noise(1, 7)))
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
    other, image = swapped(built.folded), noise(1, 8)
    with torch.inference_mode():
        torch.testing.assert_close(other(to_tensor(image)), built.folded(to_tensor(image)), atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="no tensor of the network; the converter changed its layout or order"):
        tflite.match_tensors(built.float_path, other, image.astype(np.float32) / 255)


def test_a_transposed_kernel_is_refused(built):
    other = copy.deepcopy(built.folded)
    weight = other.ops["b9_depth"].conv.weight.data
    weight.copy_(weight.transpose(2, 3).clone())
    with pytest.raises(UserError, match="no tensor of the network"):
        tflite.match_tensors(built.float_path, other, noise(1, 8).astype(np.float32) / 255)


def test_a_file_that_lacks_a_node_is_refused(built):
    other = Network([*built.folded.nodes, Node("more", "conv", ("neck",), 8, norm=False)])
    other.load_state_dict(built.folded.state_dict(), strict=False)
    with pytest.raises(UserError, match=r"lacks \['more'\]"):
        tflite.match_tensors(built.float_path, other.eval(), noise(1, 8).astype(np.float32) / 255)


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
    merged = {"params": distinct_params(built.folded), "macs": expected["macs"]}
    assert 0 <= expected["params"] - merged["params"] < 10
    assert onnx_export.cost(onnx.load(built.float_build.folder / "model.onnx")) == merged


def test_cost_of_matrix_products(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Flatten(), torch.nn.Linear(64 * 4, 5))
    graph = onnx_export.export(model.eval(), (SIZE, SIZE), tmp_path / "model.onnx", ["out"])
    macs = 64 * 4 * 3 * 64 + 64 * 4 * 5
    assert onnx_export.cost(graph) == {"params": sum(p.numel() for p in model.parameters()), "macs": macs}


def test_validation_is_the_quantile_of_the_scores_and_the_mean_auroc_of_the_families():
    """A detector that knows each picture: good ones score 0 to 9, a family's defects all the same. Every second good
    picture is judged: against 1, 3, 5, 7 and 9, as many are below 0, 4.5, 5 and so on as the AUROC says."""
    good = np.stack([np.full((SIZE, SIZE, 3), 20 * i, np.uint8) for i in range(10)])
    scores = {"spot": 0.0, "tint": 4.5, "crack": 10.0, "grain": 5.0, "cutpaste": 8.0}
    defects = validation_defects.validation_defects(good[1::2], 1)
    known = {image.tobytes(): float(i) for i, image in enumerate(good)}
    known |= {image.tobytes(): scores[name] for name, images in defects.items() for image in images}
    detector = SimpleNamespace(info=PICTURES, predict=lambda x: SimpleNamespace(score=known[x.tobytes()]))
    found = validate(detector, good, SimpleNamespace(false_alarm_rate=0.1, threshold="quantile"), 0)
    assert found["threshold"]["value"] == pytest.approx(8.9)  # of 11 gaps between and around ten scores, 9.9 below
    assert found["threshold"]["method"].startswith("false-alarm rate 10 %, quantile of 10 good validation scores; true")
    expected = (0 + 0.4 + 1 + 0.5 + 0.8) / 5
    assert found["validation"] == {"auroc": pytest.approx(expected), "good": 5, "defects": 200}


def test_one_validation_picture_is_judged_itself():
    detector = SimpleNamespace(info=PICTURES, predict=lambda image: SimpleNamespace(score=float(image.std())))
    settings = SimpleNamespace(false_alarm_rate=0.1, threshold="quantile")
    found = validate(detector, np.full((1, SIZE, SIZE, 3), 99, np.uint8), settings, 0)
    assert found["threshold"]["value"] == 0 and found["validation"]["good"] == 1
    assert found["validation"]["auroc"] > 0.9


@pytest.mark.parametrize(
    ("form", "precision", "source"),
    [("tflite", "int8", "fine"), ("tflite", "int8", "deep"), ("tflite", "float32", "fine"), ("onnx", "int8", "deep")],
)
def test_a_second_output_reaches_the_device(form, precision, source, tmp_path):
    """Map and patch embeddings from one file: what `edge` returns is what the network computes, int8 to the bit."""
    torch.manual_seed(2)
    network = fold(part(with_bank(body(0.25), noise(4, 0)), {"mask", f"embed_{source}"}))

    class Both(Student):
        kind = "both"

        def export(self):
            return Export(network, {"mask": "map", f"embed_{source}": "embedding"})

    Detector.kinds.pop("both")
    build, device = export(Both(network, {}), form, precision, tmp_path, noise(4, 1))
    assert [(o["name"], o["meaning"], o["channels"]) for o in build.outputs(False)] == [
        ("mask", "map", 1),
        (f"embed_{source}", "embedding", EMBEDDING),
    ]
    for image in noise(3, 4):
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
        record = fidelity.check(device, build.quantized, noise(4, 5), SimpleNamespace(exact=1.0, within_1=1.0))
        assert set(record["reference_kernels"]) == {"exact", "within_1", "max_lsb"}
