"""The embedding beside the map of an exported file: what it is, and that the map stays what it was."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exporting import SIZE, noise, random_student
from sklearn.decomposition import PCA

from edge.geometry import Geometry
from edge.inference.detector import load
from stages.compile import fidelity
from stages.compile.__main__ import write
from stages.compile.build import Build
from stages.compile.embedding import NAME, components
from stages.detectors.autoencoder import Autoencoder
from stages.detectors.base import Run
from stages.detectors.patchcore import PatchCore
from stages.detectors.quantized_student import QuantizedStudent
from stages.graph.tensors import to_tensor

torch.set_num_threads(1)


def exported(detector, form, precision, root, embedding, samples=None):
    folder, work = root / f"{form}-{precision}-{embedding}", root / f"work-{form}-{precision}-{embedding}"
    folder.mkdir()
    work.mkdir()
    build = Build(
        detector, "tiny", form, precision, noise(8, 2) if samples is None else samples, folder, work, None, embedding
    )
    spec = SimpleNamespace(geometry=Geometry(SIZE, SIZE), color="rgb", frames=1, step=1, depth=None)
    write(build, SimpleNamespace(input=spec, compile=SimpleNamespace(smooth=1, map_sigma=0.0)))
    return build, load(folder)


@pytest.fixture(scope="module")
def student():
    return QuantizedStudent(random_student().model, trained=True)


def test_components_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    mixed = (rng.normal(size=(6, 6)) * rng.uniform(0.1, 20, 6)).astype(np.float32)

    def embed(images):
        return torch.einsum("nchw,cd->ndhw", torch.cat([images, images.flip(2)], 1), torch.from_numpy(mixed))

    samples = noise(20, 1)
    weight, bias = components(embed, samples, 4)
    patches = embed(to_tensor(samples)).permute(0, 2, 3, 1).reshape(-1, 6).numpy()
    scaled = patches / patches.std(0)
    pca = PCA(4).fit(scaled)
    found, wanted = patches @ weight.numpy().T + bias.numpy(), pca.transform(scaled)
    wanted = wanted / pca.explained_variance_**0.25  # half whitened
    wanted /= np.sqrt(np.sqrt(pca.explained_variance_).mean())
    signs = np.sign((found * wanted).sum(0))
    np.testing.assert_allclose(found * signs, wanted, atol=2e-3)


def test_the_map_of_an_int8_file_keeps_every_bit(student, tmp_path):
    build, with_it = exported(student, "tflite", "int8", tmp_path, 24)
    alone = random_student().device
    for image in noise(4, 9):
        assert np.array_equal(with_it.predict(image).raw_map, alone.predict(image).raw_map)
        assert alone.predict(image).embedding is None
    record = fidelity.check(with_it, build.quantized, noise(8, 4), SimpleNamespace(exact=0.99, within_1=1.0))
    assert record["exact"] >= 0.99  # of map and embedding together
    embedding = with_it.info.output("embedding")
    assert (embedding.height, embedding.width, embedding.channels) == (SIZE // 16, SIZE // 16, 24)


@pytest.mark.parametrize("form", ["tflite", "onnx"])
def test_a_float_file_computes_the_components_of_the_deep_features(student, form, tmp_path):
    build, device = exported(student, form, "float32", tmp_path, 16)
    source = next(node.inputs[0] for node in build.network.nodes if node.name == "pool_deep")
    conv = build.network.ops[NAME].conv
    for image in noise(2, 5):
        with torch.inference_mode():
            deep = build.network.activations(to_tensor(image[None]))[source]
            wanted = torch.einsum("nchw,dc->nhwd", deep, conv.weight[:, :, 0, 0]) + conv.bias
        np.testing.assert_allclose(device.predict(image).embedding, wanted[0].detach().numpy(), atol=2e-3)


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_patchcore_gives_components_of_its_patch_embeddings(form, tmp_path):
    settings, _ = PatchCore.example()
    detector = PatchCore.fit(noise(4, 1), noise(2, 3), settings, Run(0, "test", lambda *a, **k: None))
    _, device = exported(detector, form, "float32", tmp_path, 12)
    _, alone = exported(detector, form, "float32", tmp_path, 0)
    weight, bias = components(detector.embed, noise(8, 2), 12)
    for image in noise(2, 6):
        with torch.inference_mode():
            patches = detector.embed(to_tensor(image[None]))[0].permute(1, 2, 0)
        found = device.predict(image)
        np.testing.assert_allclose(found.embedding, (patches @ weight.T + bias).numpy(), atol=2e-3)
        np.testing.assert_allclose(found.raw_map, alone.predict(image).raw_map, atol=1e-4)


def test_a_kind_without_embedding_says_so_and_is_exported_as_ever(tmp_path, capsys):
    settings, _ = Autoencoder.example()
    detector = Autoencoder.fit(noise(8, 1), noise(2, 3), settings, Run(0, "test", lambda *a, **k: None))
    _, device = exported(detector, "onnx", "float32", tmp_path, 8)
    assert "tiny: exported without an embedding: the kind autoencoder has none" in capsys.readouterr().out
    assert [output.meaning for output in device.info.outputs] == ["map"]
