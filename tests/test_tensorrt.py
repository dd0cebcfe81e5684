"""TensorRT against a stand-in: engines are built on the device from the ONNX file, once, and never leave it."""

import json
import shutil
import sys
import threading

import cv2
import numpy as np
import onnx
import pytest
import runner_project
import ssh_hosts
import tensorrt_stand_in
import tiny_models

import edge
from edge.errors import ModelError
from edge.inference.detector import prepare
from edge.inference.modelfile import open_model, write_model
from hardware_runners.commands import look
from hardware_runners.runner import devices, result, transports
from hardware_runners.runner.devices import Device
from hardware_runners.runner.errors import RunnerError
from hardware_runners.runner.transports import bundle

pytestmark = pytest.mark.skipif(not tensorrt_stand_in.COMPILER, reason="needs a C compiler")
PICTURE = np.random.default_rng(3).integers(0, 256, (16, 16, 3), np.uint8)


def variant(folder, precision: str = "float32", **more):
    """A model folder of format tensorrt: the tiny ONNX file."""
    shutil.copytree(tiny_models.build() / "onnx", folder)
    raw = json.loads((folder / "model.json").read_text())
    write_model(folder, {**raw, "tensorrt": {"precision": precision}, **more})
    return folder


@pytest.fixture
def stand_in(tmp_path):
    return tensorrt_stand_in.StandIn(tmp_path / "tensorrt")


@pytest.fixture
def here(stand_in, monkeypatch):
    """TensorRT on this machine."""
    stand_in.here(monkeypatch)
    return stand_in


# in one process


@pytest.mark.parametrize(
    ("version", "precision", "flags"),
    [
        ("10.3.0", "float32", ["--noTF32", "--skipInference"]),
        ("10.3.0", "float16", ["--fp16", "--skipInference"]),
        ("8.6.1", "float16", ["--fp16", "--skipInference"]),
        ("8.5.2", "float32", ["--noTF32", "--buildOnly"]),
    ],
)
def test_an_engine_gives_what_the_onnx_file_gives(here, tmp_path, monkeypatch, version, precision, flags):
    monkeypatch.setenv("FAKE_TRTEXEC_VERSION", version)
    monkeypatch.setenv("FAKE_TENSORRT", f"{version}.4")  # NVIDIA's packages have a fourth number
    folder = variant(tmp_path / "model", precision)
    text = here.trtexec.read_text().replace('{"version": version}', '{"version": version + ".4"}')
    here.trtexec.write_text(text)
    detector = edge.load(folder, 1, "tensorrt")
    found, wanted = detector.predict(PICTURE), edge.load(folder).predict(PICTURE)
    np.testing.assert_allclose(found.raw_map, wanted.raw_map, atol=1e-6)
    assert found.score == pytest.approx(wanted.score)
    ((source, target, *given),) = here.builds
    assert source == f"--onnx={folder / 'model.onnx'}" and target.startswith("--saveEngine=") and given == flags
    (engine,) = here.engines
    assert detector.details == {
        **{"name": "tensorrt", "version": f"{version}.4", "delegate": "tensorrt", "gpu": tensorrt_stand_in.GPU},
        "engine_bytes": str(engine.stat().st_size),
    }


def test_one_build_for_each_model_version_gpu_and_precision(here, tmp_path, monkeypatch):
    folder = variant(tmp_path / "model")

    def builds() -> int:
        edge.load(folder, 1, "tensorrt")
        return len(here.builds)

    assert [builds(), builds()] == [1, 1]
    write_model(folder, {**json.loads((folder / "model.json").read_text()), "tensorrt": {"precision": "float16"}})
    assert [builds(), builds()] == [2, 2]
    monkeypatch.setenv("FAKE_GPU", "Another GPU")
    assert [builds(), builds()] == [3, 3]
    model = onnx.load(folder / "model.onnx")
    model.doc_string = "another file"
    onnx.save(model, folder / "model.onnx")
    write_model(folder, json.loads((folder / "model.json").read_text()))
    assert [builds(), builds()] == [4, 4]
    monkeypatch.setenv("FAKE_TRTEXEC_VERSION", "10.4.0")
    monkeypatch.setattr("tensorrt.__version__", "10.4.0")
    assert [builds(), builds()] == [5, 5]
    assert len(here.engines) == 5 and not list(folder.glob("*.tensorrt"))


def test_other_threads_may_use_the_engine(here, tmp_path):
    """The driver has a current context for each thread."""
    detector = edge.load(variant(tmp_path / "model"), 1, "tensorrt")
    found = []
    thread = threading.Thread(target=lambda: found.append(detector.predict(PICTURE).score))
    thread.start()
    thread.join()
    assert found == [detector.predict(PICTURE).score]


LINES = [
    ({"FAKE_TRTEXEC": "memory"}, "model.onnx: trtexec ran out of memory; close what else runs"),
    ({"FAKE_TRTEXEC": "killed"}, "model.onnx: trtexec ran out of memory; close what else runs"),
    ({"FAKE_TRTEXEC": "fails"}, "model.onnx: trtexec can't build an engine: no importer registered for op: Fancy"),
    ({"FAKE_TRTEXEC": "nothing"}, "model.onnx: trtexec can't build an engine: &&&& RUNNING TensorRT.trtexec"),
    ({"FAKE_TRTEXEC_VERSION": "10.4.0"}, "is of TensorRT 10.4.0, but the Python package tensorrt is 10.3.0: install"),
    ({"FAKE_TRTEXEC_VERSION": "8.4.3"}, "is of TensorRT 8.4.3; install 8.5 or newer"),
    ({"FAKE_NO_GPU": "1"}, "no GPU that CUDA can use: cuInit: no CUDA-capable device is detected (100)"),
    ({"FAKE_GPU_BYTES": "3000"}, "not a model that tensorrt runs: not enough memory"),
    ({"FAKE_NO_CONTEXT": "1"}, "no execution context: not enough memory of the GPU"),
]


@pytest.mark.parametrize(("environment", "message"), LINES)
def test_what_goes_wrong_is_one_line(here, tmp_path, monkeypatch, environment, message):
    folder = variant(tmp_path / "model")
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ModelError) as caught:
        edge.load(folder, 1, "tensorrt")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not [path for path in here.engines if path.name.startswith(".")]  # and no part is left


def test_without_trtexec(here, tmp_path):
    here.trtexec.unlink()
    with pytest.raises(ModelError, match=r"no trtexec in PATH or /usr/src/tensorrt/bin to build an engine: NVIDIA's "):
        edge.load(variant(tmp_path / "model"), 1, "tensorrt")
    here.trtexec.write_text("#!/bin/sh\necho another program\n")
    here.trtexec.chmod(0o755)
    with pytest.raises(ModelError, match=r"trtexec: does not say its version; install TensorRT 8\.5 or newer"):
        edge.load(tmp_path / "model", 1, "tensorrt")


def test_without_the_driver_or_the_package(here, tmp_path, monkeypatch):
    here.cuda.unlink()
    folder = variant(tmp_path / "model")
    with pytest.raises(ModelError, match=r"libcuda\.so\.1 can't be used: .*; install NVIDIA's driver"):
        edge.load(folder, 1, "tensorrt")
    shutil.rmtree(here.folder / "site/tensorrt")
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(ModelError, match="no TensorRT runtime: pip install tensorrt"):
        edge.load(folder, 1, "tensorrt")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"version": "10.2.0"}\nx', "not compatible with this version of TensorRT, expecting library version 10.3.0"),
        (b"cut sh", "Serialization assertion failed: magic tag does not match"),
    ],
)
def test_an_engine_of_another_version_or_a_broken_one(here, tmp_path, content, why):
    folder = variant(tmp_path / "model")
    edge.load(folder, 1, "tensorrt")
    (engine,) = here.engines
    engine.write_bytes(content)
    with pytest.raises(ModelError, match=r"TensorRT 10\.3\.0 can't run this engine: ") as caught:
        edge.load(folder, 1, "tensorrt")
    assert why in str(caught.value) and str(caught.value).startswith(f"{engine}: ")
    assert "\n" not in str(caught.value) and str(caught.value).endswith("; remove it, and it is built again")
    engine.unlink()
    edge.load(folder, 1, "tensorrt")


def test_an_inference_that_fails(here, tmp_path, monkeypatch):
    detector = edge.load(variant(tmp_path / "model"), 1, "tensorrt")
    monkeypatch.setenv("FAKE_FAILS", "1")
    with pytest.raises(ModelError, match=r"model\.onnx: tensorrt failed: the engine did not run"):
        detector.predict(PICTURE)


def test_int8_needs_a_calibrated_file(here, tmp_path):
    """trtexec itself would invent ranges."""
    with pytest.raises(ModelError, match=r"model\.onnx: int8 without calibration: the file has no Q/DQ pairs"):
        edge.load(variant(tmp_path / "model", "int8"), 1, "tensorrt")
    assert here.builds == []


def test_only_variants_of_the_format_run_there(here, tmp_path):
    shutil.copytree(tiny_models.build() / "onnx", tmp_path / "model")
    with pytest.raises(ModelError, match="model: not compiled for tensorrt; build a variant of format tensorrt"):
        edge.load(tmp_path / "model", 1, "tensorrt")
    with pytest.raises(ModelError, match=r"tensorrt\.precision = 'bf16': must be 'float32' or 'float16' or 'int8'"):
        variant(tmp_path / "other", "bf16")


# over SSH


@pytest.fixture
def device(stand_in, tmp_path, monkeypatch):
    """A device with TensorRT, as an inventory file describes it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    host = ssh_hosts.Host(tmp_path / "orin", home, 0)
    host.trust()
    made = devices.check(host.device("orin", python=str(stand_in.python), runtime=["tensorrt"], threads=[1]), "orin")
    yield made.model_copy(update={"fingerprint": transports.probe(made)["fingerprint"]})
    host.close()


def ship(tmp_path, precision: str):
    """The model of the runners' tests as a variant of format tensorrt."""
    folder = tmp_path / f"slow-{precision}"
    shutil.copytree(runner_project.model(), folder)
    raw = json.loads((folder / "model.json").read_text())
    return open_model(write_model(folder, {**raw, "tensorrt": {"precision": precision}}).folder)


@pytest.mark.slow
def test_the_device_builds_measures_and_keeps_its_engine(device, stand_in, tmp_path):
    info = ship(tmp_path, "float16")
    devices.check_runtime(device, info.format)
    for _ in range(2):
        found = transports.measure(device, info.folder, 5, 2, [1], "test")
    row = result.row(device, "student-trt", info, found)
    assert (row["status"], row["runtime"]["delegate"], row["runtime"]["gpu"]) == ("ok", "tensorrt", "Stand-in GPU")
    assert row["sha256"] == info.sha256 and row["size_bytes"] == info.path.stat().st_size
    (build,) = stand_in.builds  # once, although it was measured twice
    (engine,) = stand_in.engines
    assert "--fp16" in build and int(row["runtime"]["engine_bytes"]) == engine.stat().st_size
    # the engine lies in the cache of the device alone
    assert set(bundle.model(info.folder).files) == {"model.onnx", "model.json"}
    assert not [path for path in (tmp_path / "orin").rglob("*") if path.suffix == engine.suffix]
    _, file = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8))
    files = {"a.png": file.tobytes()}
    there = transports.score(device, info.folder, files, "test")["scores"]["a.png"]
    local = Device(name="local", transport="local")
    assert there == pytest.approx(transports.score(local, info.folder, files, "test")["scores"]["a.png"], abs=1e-5)


@pytest.mark.slow
def test_what_goes_wrong_there_is_one_line(device, stand_in, tmp_path):
    info = ship(tmp_path, "float32")
    for environment, message in (LINES[0], LINES[4], LINES[6]):
        stand_in.set(**environment)
        with pytest.raises(RunnerError, match="device orin: ") as caught:
            transports.measure(device, info.folder, 5, 2, [1], "test")
        assert message.partition("; ")[0] in str(caught.value) and "\n" not in str(caught.value)
    stand_in.set()
    with pytest.raises(RunnerError, match="not compiled for tensorrt; build a variant of format tensorrt"):
        transports.measure(device, runner_project.model(), 5, 2, [1], "test")


@pytest.mark.slow
def test_doctor_says_what_is_missing(device, stand_in):
    found = transports.probe(device)
    assert found["versions"]["tensorrt"] == tensorrt_stand_in.VERSION and found["delegates"]["tensorrt"]
    assert look.diagnose(device, {**found, "free_mb": 1e4}) == []
    stand_in.trtexec.unlink()
    shutil.rmtree(stand_in.folder / "site")
    lines = look.diagnose(device, {**transports.probe(device), "free_mb": 1e4})
    assert lines[0].startswith("TensorRT runtime: NVIDIA's driver, and trtexec (sudo apt install libnvinfer-bin")
    assert lines[1].startswith("a library for it: ") and lines[1].endswith("-m pip install tensorrt")


def test_building_is_not_timed(here, tmp_path):
    """`measure` prepares before it times the loading."""
    info = open_model(variant(tmp_path / "model"))
    prepare(info, "tensorrt")
    assert len(here.builds) == 1
    prepare(open_model(tiny_models.build() / "onnx"))
    edge.load(info.folder, 1, "tensorrt")
    assert len(here.builds) == 1
