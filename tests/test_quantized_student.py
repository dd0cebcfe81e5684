"""The int8 student: calibrated or trained, whose memory banks it has, and its files."""

import json
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exporting import export
from students import body, detector, pictures

from stages.compile import fidelity
from stages.detectors.base import FILE, Run
from stages.detectors.local_density import expected_distances
from stages.detectors.quantized_student import QuantizedStudent
from stages.detectors.registry import load
from stages.detectors.student import Student
from stages.detectors.student_network import SOURCES
from stages.graph.batchnorm import fold
from stages.graph.bias_correction import correct_biases
from stages.graph.quantize import QuantNetwork
from stages.graph.ranges import narrow_ranges
from stages.graph.tensors import to_tensor
from stages.training.synthetic_defects import training_pool

torch.set_num_threads(1)
SIZE, ENTRIES = 64, 32
TRAIN, VAL, NEW = pictures(12, SIZE, 1), pictures(6, SIZE, 2), pictures(8, SIZE, 3)


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """Checkpoints of a training stay in the test's folder."""
    monkeypatch.chdir(tmp_path)


@cache
def student() -> Student:
    torch.manual_seed(4)
    return detector(body(0.25), TRAIN, ENTRIES)


@cache
def int8(epochs: int) -> QuantizedStudent:
    settings = SimpleNamespace(images=16, batch=8, qat_epochs=epochs, lr=0.001)
    return QuantizedStudent.fit(TRAIN, VAL, settings, Run(0, "test", lambda *_, **__: None, student()))


def test_without_epochs_it_is_calibrated_and_its_biases_are_corrected():
    """It is the float student with its memory banks, in which biases alone have changed."""
    found, before = int8(0), fold(student().network)
    assert not found.trained
    assert found.export().ranges.startswith("post-training: smallest and largest values on 256 training pictures")
    images = to_tensor(training_pool(TRAIN, 256, 0, 1)[0])
    wanted = QuantNetwork.calibrated(fold(student().network), images)
    narrow_ranges(wanted, images[:32])
    correct_biases(wanted, images[:32])
    layers, changed = found.quantized.network.layers, 0
    assert layers.keys() == before.layers.keys()
    for name, layer in wanted.network.layers.items():
        assert torch.equal(found.quantized.quantizer(name).range, wanted.quantizer(name).range), name
        assert torch.equal(layers[name].weight, before.layers[name].weight), name
        assert torch.equal(layers[name].bias, layer.bias), name
        changed += int(not torch.equal(layers[name].bias, before.layers[name].bias))
    assert changed > 10


def test_with_epochs_it_is_trained():
    found, before = int8(1), fold(student().network)
    assert found.trained and found.export().ranges == "learned by quantization-aware training"
    layers = found.quantized.network.layers
    assert not torch.equal(layers["b4_project"].weight, before.layers["b4_project"].weight)


def test_the_banks_of_a_trained_one_hold_embeddings_of_the_int8_network():
    """Each entry is the mean of the embeddings nearest to it, and those are what the int8 network says: on the steps of
    its grid, unlike those of the float network."""
    quantized = int8(1).quantized
    layers = quantized.network.layers
    with torch.inference_mode():
        values = quantized.activations(to_tensor(TRAIN))
    for source in SOURCES:
        patches = values[f"embed_{source}"].permute(0, 2, 3, 1).reshape(-1, 32).double().numpy()
        scale = layers[f"length_{source}"].weight.flatten()[0].item()
        entries = layers[f"bank_{source}"].weight[:, :, 0, 0].double().detach().numpy() / (-2 * scale)
        assert len(entries) == (ENTRIES if source == "deep" else ENTRIES // 2)
        step, _ = quantized.quantizer(f"embed_{source}").scale_zero
        np.testing.assert_allclose(patches / step, np.rint(patches / step), atol=1e-3)
        lonely = np.abs(entries / step - np.rint(entries / step)).max(1) < 1e-2  # entries that are one patch
        nearest = ((entries[:, None] - patches[None]) ** 2).sum(-1).min(1)
        assert lonely.any() and nearest[lonely].max() < (0.02 * step) ** 2 * 32
        expected = expected_distances(values[f"embed_{source}"], torch.from_numpy(entries).float()).numpy()
        offsets = layers[f"bank_{source}"].bias.detach().numpy() / scale
        np.testing.assert_allclose(offsets, (entries**2).sum(1) - expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("epochs", [0, 1])
def test_it_comes_back_from_its_folder(epochs, tmp_path):
    found = int8(epochs)
    found.save(tmp_path)
    assert json.loads((tmp_path / FILE).read_text()) == {"kind": "quantized_student", "trained": bool(epochs)}
    back = load(tmp_path)
    assert back.trained == found.trained and back.export().ranges == found.export().ranges
    assert torch.equal(back.maps(NEW), found.maps(NEW))


# its files


def made(name: str):
    """The student with float weights, calibrated by compile, or one of its int8 forms."""
    return {"calibrated by compile": student, "calibrated": lambda: int8(0), "trained": lambda: int8(1)}[name]()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ranges"),
    [("calibrated by compile", "post-training"), ("calibrated", "post-training"), ("trained", "learned")],
)
def test_the_tflite_file_is_the_simulation_to_the_bit(name, ranges, tmp_path):
    """A whole student with two memory banks on XNNPACK, on pictures with defects as well."""
    build, device = export(made(name), "tflite", "int8", tmp_path, training_pool(TRAIN, 8, 0, 2)[0])
    assert device.info.quantization.ranges.startswith(ranges) and device.details["delegate"] == "XNNPACK"
    images = np.concatenate([NEW, training_pool(NEW, 8, 0)[0]])
    record = fidelity.check(device, build.quantized, images, SimpleNamespace(exact=1.0, within_1=1.0))
    assert record["exact"] == 1.0 and record["max_lsb"] == 0
    values = np.stack([device.invoke(device.prepare(image))[0] for image in images])
    assert len(np.unique(values)) > 50, "the map uses its grid"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["calibrated by compile", "calibrated"])
def test_the_onnx_file_is_the_simulation_but_for_its_rounding(name, tmp_path):
    """Of pictures that it was calibrated on: an untrained network enlarges the rounding of others."""
    samples = training_pool(TRAIN, 8, 0, 2)[0]
    build, device = export(made(name), "onnx", "int8", tmp_path, samples)
    found = fidelity.device_outputs(device, samples)
    wanted = fidelity.simulated(build.quantized, samples, fidelity.compared(device))
    assert wanted.std() > 5 and np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99
    assert fidelity.difference(found, wanted)["within_1"] > 0.5
