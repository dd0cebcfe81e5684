"""The checks that every detector kind must pass; a new kind is found by itself and needs no line here."""

import json
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import one_line
from exporting import export
from safetensors.torch import load_file, save_file
from scipy.spatial import distance
from students import pictures

from edge.errors import UserError
from stages.compile import fidelity
from stages.detectors import base
from stages.detectors.base import MAP, SCORE, Run
from stages.detectors.registry import all_kinds, find, load
from stages.training.synthetic_defects import training_pool
from stages.training.torch_setup import prepare

SIZE = 64
TRAIN, VAL, NEW = pictures(12, SIZE, 1), pictures(6, SIZE, 2), pictures(5, SIZE, 3)
DEFECTS = training_pool(pictures(10, SIZE, 4), 10, 0)[0][1::2]  # for a kind that is supervised
import_module("example_detectors.color_gaussian")  # the example of CONTRIBUTING passes the checks as well
KINDS = list(all_kinds())


def fit(kind: str, train=TRAIN, val=VAL, seed: int = 0):
    """A detector of the kind with its example's settings, the source from the cache."""
    settings, source = find(kind).example()
    prepare(seed, 1)
    defects = (DEFECTS, DEFECTS[:3]) if find(kind).supervised else None
    run = Run(seed, "test", lambda *_, **__: None, source and fitted(source), defects)
    return find(kind).fit(train, val, settings, run)


@cache
def fitted(kind: str):
    return fit(kind)


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """Checkpoints of a training stay in the test's folder."""
    monkeypatch.chdir(tmp_path)


def saved(detector) -> Path:
    folder = Path(tempfile.mkdtemp(dir="."))
    detector.save(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_folders(kind):
    first, again = (saved(detector) for detector in (fitted(kind), fit(kind)))
    files = {path.name for path in first.iterdir()}
    assert files == {path.name for path in again.iterdir()}
    for name in files:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_detector_comes_back_by_its_kind(kind):
    folder = saved(fitted(kind))
    assert json.loads((folder / base.FILE).read_text())["kind"] == kind
    back = load(folder)
    assert type(back) is find(kind) and torch.equal(back.maps(NEW), fitted(kind).maps(NEW))
    again = saved(back)
    assert all(path.read_bytes() == (again / path.name).read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_maps_and_embeddings_have_the_shapes_that_the_contract_names(kind):
    detector = fitted(kind)
    maps = detector.maps(NEW)
    assert maps.dtype == torch.float32 and maps.ndim == 3 and len(maps) == len(NEW)
    assert torch.isfinite(maps).all() and maps.std() > 0
    torch.testing.assert_close(detector.maps(NEW[1:2]), maps[1:2], atol=1e-4, rtol=1e-4)  # alone or in a batch
    with torch.inference_mode():
        embeddings = detector.embed(base.to_tensor(NEW))
    assert embeddings is None or (embeddings.ndim == 4 and len(embeddings) == len(NEW) and embeddings.std() > 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_rectangles_are_learned_or_refused_in_one_line(kind, monkeypatch):
    train, val, new, defects = (np.ascontiguousarray(part[:, :48]) for part in (TRAIN, VAL, NEW, DEFECTS))
    monkeypatch.setattr(f"{__name__}.DEFECTS", defects)
    try:
        maps = fit(kind, train, val).maps(new)
    except UserError as error:
        assert kind in ("autoencoder", "efficientad") and "48 x 64 pixels" in str(error) and "\n" not in str(error)
    else:
        assert maps.shape[1] * 64 == maps.shape[2] * 48


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("train", "val", "what"),
    [
        (TRAIN[:0], VAL, "0 pictures; at least"),
        (TRAIN.astype(np.float32), VAL, "float32 .*must be uint8"),
        (TRAIN[0], VAL, r"\[64, 64, 3\].*must be uint8 \[N, H, W, C\]"),
    ],
)
def test_samples_that_it_cannot_use_are_refused_in_one_line(kind, train, val, what):
    with pytest.raises(UserError, match=what) as caught:
        fit(kind, train, val)
    one_line(caught)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_or_foreign_folder_is_refused_in_one_line(kind):
    folder = saved(fitted(kind))
    for path in [*sorted(folder.glob("*.safetensors")), folder / base.FILE]:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UserError, match=f"{path.name}: damaged") as caught:
            load(folder)
        one_line(caught)
        path.write_bytes(content)
    load(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_another_version_is_refused_in_one_line(kind):
    """A tensor that this version doesn't know, or no file at all, in a folder that its manifest says is whole."""
    folder = saved(fitted(kind))
    files = sorted(folder.glob("*.safetensors"))
    assert files
    for path in files:
        content, ((name, value), *rest) = path.read_bytes(), load_file(path).items()
        for other in (dict([("former." + name, value), *rest]), None):
            path.unlink()
            if other:
                save_file(other, path)
            base.manifest.write(folder)
            with pytest.raises(UserError, match=rf"{folder}: no {kind} as this version writes it \(.") as caught:
                load(folder)
            one_line(caught)
            path.write_bytes(content)
    base.manifest.write(folder)
    load(folder)


def exported(kind: str, form: str, precision: str):
    """The build of a kind as this format, and its file opened as a device does."""
    return export(fitted(kind), form, precision, Path(), pictures(6, SIZE, 4))


@pytest.mark.parametrize("form", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_float_file_computes_the_same_map_and_score(kind, form):
    build, device = exported(kind, form, "float32")
    with torch.inference_mode():
        outputs = build.export.module(base.to_tensor(NEW))
    named = dict(zip(build.export.outputs.values(), [outputs] if torch.is_tensor(outputs) else outputs, strict=True))
    for i, image in enumerate(NEW):
        raw = dict(zip((MAP, SCORE), device.invoke(device.prepare(image)), strict=False))
        for meaning, value in raw.items():
            wanted = named[meaning][i].numpy()
            np.testing.assert_allclose(np.asarray(value).reshape(wanted.shape), wanted, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_an_int8_file_computes_it_to_the_bit_or_is_refused_in_one_line(kind):
    if not hasattr(fitted(kind).export().module, "nodes"):
        for form in ("tflite", "openvino"):
            with pytest.raises(UserError, match=f"a {kind} is no network of nodes .* set format: onnx or op") as caught:
                exported(kind, form, "int8")
            one_line(caught)
        return
    before = fitted(kind).maps(NEW)
    build, device = exported(kind, "tflite", "int8")
    wanted = fidelity.simulated(build.quantized, NEW, fidelity.compared(device))
    record = fidelity.difference(fidelity.device_outputs(device, NEW), wanted)
    assert record["exact"] == 1.0, record
    assert torch.equal(fitted(kind).maps(NEW), before), "the export left the detector as it was"


def test_an_unknown_kind_is_refused_by_name():
    folder = saved(fitted("patchcore"))
    settings = json.loads((folder / base.FILE).read_text())
    (folder / base.FILE).write_text(json.dumps({**settings, "kind": "oracle"}))
    base.manifest.write(folder)
    with pytest.raises(UserError, match=r"no detector kind 'oracle'; there are .*patchcore"):
        load(folder)


def test_the_example_is_a_mahalanobis_distance():
    """Against scipy, patch by patch."""
    found = fitted("color_gaussian").maps(NEW).numpy()
    patches = TRAIN.reshape(len(TRAIN), 8, 8, 8, 8, 3).mean((2, 4)).reshape(-1, 3) / 255
    inverse = np.linalg.inv(np.cov(patches.T) + 1e-3 * np.eye(3))
    for i, y, x in np.ndindex(found.shape):
        colour = NEW[i, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].reshape(-1, 3).mean(0) / 255
        expected = distance.mahalanobis(colour, patches.mean(0), inverse) ** 2
        assert found[i, y, x] == pytest.approx(expected, rel=1e-3, abs=1e-3)
