"""The local benchmark: structure and figures of its rows, clean imports, one-line errors."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny_models
import yaml
from conftest import ROOT

from edge.errors import UserError
from edge.inference.modelfile import open_model
from hardware_runners.runner import devices, result, transports
from hardware_runners.runner.devices import Device
from hardware_runners.runner.energy import estimate
from hardware_runners.runner.errors import RunnerError
from hardware_runners.runner.remote import machine
from hardware_runners.runner.transports import local
from stages.common.params import read_yaml

pytestmark = pytest.mark.slow

DEVICE = Device.model_validate(
    {"name": "local", "transport": "local", "energy": {"source": "none", "reason": "no sensor"}}
)


@pytest.fixture(scope="module")
def models():
    return tiny_models.build()


@pytest.fixture(scope="module")
def measured(models):
    return transports.measure(DEVICE, models / "int8", 20, 3, [1, 2, machine.cores() + 1], "test")


def test_one_block_per_thread_count(measured):
    counts = [1, 2, machine.cores() + 1]
    assert [block["threads"] for block in measured["blocks"]] == counts
    assert [block["oversubscribed"] for block in measured["blocks"]] == [False, machine.cores() < 2, True]
    assert measured["runtime"]["name"] == "ai_edge_litert" and measured["runtime"]["version"][0].isdigit()
    assert measured["machine"]["cores"] == machine.cores()


def test_figures_follow_from_the_samples(measured):
    for block in measured["blocks"]:
        samples, latency = np.array(block["samples_ms"]), block["latency_ms"]
        assert len(samples) == block["runs"] == 20 and (samples > 0).all()
        ordered = np.sort(samples)
        assert latency["p50"] == pytest.approx((ordered[9] + ordered[10]) / 2)
        for name in ("p90", "p99"):
            at = int(name[1:]) / 100 * 19
            low = int(at)
            assert latency[name] == pytest.approx(ordered[low] + (at - low) * (ordered[low + 1] - ordered[low]))
        assert latency["mean"] == pytest.approx(samples.sum() / 20)
        assert latency["std"] == pytest.approx(np.sqrt(((samples - latency["mean"]) ** 2).sum() / 19))
        assert latency["p50"] <= latency["p90"] <= latency["p99"] <= samples.max()
        assert 0 < block["warmup_ms"]["first"] <= block["warmup_ms"]["total"]
        assert block["init_ms"] > 0 and block["predict_ms"]["p50"] > 0
        assert {"governor", "frequency_mhz", "temperature_c", "throttling", "load_average"} == set(block["before"])


def test_memory_is_that_of_the_measuring_process(models):
    """The peak must not begin with the memory of the process that started the measurement."""
    ballast = np.ones(400 * 2**20, np.uint8)
    peak = local.measure(DEVICE, models / "int8", 2, 1, [1])["blocks"][0]["peak_rss_mb"]
    assert 10 < peak < 300 and ballast[-1] == 1


def test_row(models, measured):
    info = open_model(models / "int8")
    row = result.row(DEVICE, "student-int8", info, measured)
    first = measured["blocks"][0]
    assert (row["device"], row["variant"], row["status"], row["how"]) == ("local", "student-int8", "ok", "measured")
    assert row["size_bytes"] == os.path.getsize(models / "int8" / "model.tflite")
    assert (row["params"], row["macs"], row["threads"]) == (28, info.macs, 1)
    assert row["latency_ms"] == {key: first["latency_ms"][key] for key in ("p50", "p90", "p99")}
    assert (row["init_ms"], row["peak_rss_mb"]) == (first["init_ms"], first["peak_rss_mb"])
    assert row["energy"] == {"value_mj": None, "method": "none", "reason": "no sensor"}
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    with pytest.raises(RunnerError, match="another file"):
        result.row(DEVICE, "x", open_model(models / "float"), measured)


def test_the_size_is_that_of_the_file_that_ran(models, tmp_path):
    """On an Edge TPU the compiled one, which a damaged copy of is refused."""
    folder = shutil.copytree(models / "int8", tmp_path / "m")
    (folder / "compiled.tflite").write_bytes(bytes(12345))
    tree = json.loads((folder / "model.json").read_text())
    digest = hashlib.sha256(bytes(12345)).hexdigest()
    tree["files"]["compiled.tflite"] = digest
    counts = {"ops": 1, "mapped": 1, "predicted_mapped": 1, "cpu": [], "subgraphs": 1, "parameter_bytes": 1}
    sizes = {"on_chip_bytes": 1, "streamed_bytes": 0, "min_runtime_version": 13, "compiler": "16.0"}
    tree["edgetpu"] = {"how": "compiled", "file": "compiled.tflite", **counts, **sizes}
    (folder / "model.json").write_text(json.dumps(tree))
    info = open_model(folder)
    coral = Device.model_validate({"name": "coral", "transport": "local", "runtime": ["edgetpu"]})
    assert result.size(coral, info) == 12345
    assert result.size(DEVICE, info) == (folder / "model.tflite").stat().st_size
    coral = coral.model_copy(update={"energy": coral.energy.model_copy(update={"source": "estimate"})})
    assert result.energy(coral, info, None) == estimate.estimate(info.macs, 12345, "int8")
    (folder / "compiled.tflite").write_bytes(bytes(12344) + b"x")
    with pytest.raises(UserError, match=r"compiled\.tflite"):
        open_model(folder)


@pytest.mark.parametrize("kind", ["int8", "onnx"])
def test_measuring_imports_no_build_code(models, kind):
    code = (
        "import sys; from hardware_runners.runner.remote import measure\n"
        f"assert measure.main([{str(models / kind)!r}, '--runs', '2', '--warmup', '1']) == 0\n"
        "print('\\n', sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    roots = set(yaml.safe_load(done.stdout.splitlines()[-1]))
    assert {"edge", "numpy", "hardware_runners"} <= roots
    heavy = {"torch", "tensorflow", "dvc", "stages", "onnx", "scipy", "pydantic", "yaml", "pandas"}
    assert not roots & heavy
    assert ("onnxruntime" in roots) == (kind == "onnx") and ("ai_edge_litert" in roots) == (kind == "int8")


def test_measuring_ends_with_the_process_that_started_it(models):
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'hardware_runners.runner.remote.measure', *sys.argv[1:]])\n"
        "while 'ai_edge_litert' not in open(f'/proc/{child.pid}/maps').read():\n"  # it measures, or is about to
        "    time.sleep(0.05)"
    )
    command = [sys.executable, "-c", code, str(models / "int8"), "--runs", "100000000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)  # waits for the pipes to close
    assert done.returncode == 0 and done.stderr.count("Traceback") == 0


@pytest.mark.parametrize(
    "action", ["measure(device, folder, 1000000, 1, [1])", "score(device, folder, {'a.png': b''})"]
)
def test_measuring_ends_when_who_started_it_is_gone_before_it_begins(models, tmp_path, action):
    code = (
        "import os, subprocess, sys\n"
        "from hardware_runners.runner.devices import Device\n"
        "from hardware_runners.runner.transports import local\n"
        "def leave(command, capture_output, text, **more):\n"
        "    subprocess.Popen(command, **more)\n"
        "    os._exit(0)\n"
        "subprocess.run = leave\n"
        "device, folder = Device.model_validate_json(sys.argv[1]), sys.argv[2]\n"
        f"local.{action}"
    )
    command = [sys.executable, "-c", code, DEVICE.model_dump_json(), str(models / "int8")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")  # once both have closed their pipes
    assert "error" not in done.stderr and "Traceback" not in done.stderr


def test_errors_of_the_measuring_process_are_one_line(models, tmp_path):
    with pytest.raises(RunnerError, match=r"^device local: .*nothing: no such model folder$"):
        local.measure(DEVICE, tmp_path / "nothing", 2, 1, [1])


def test_machine_description_reads_what_is_there(tmp_path, monkeypatch):
    described = machine.describe()
    assert described["cores"] >= 1 and described["memory_mb"] > 0 and described["cpu"]
    (tmp_path / "thermal_zone0").mkdir()
    (tmp_path / "thermal_zone0" / "temp").write_text("51500\n")
    (tmp_path / "scaling_cur_freq").write_text("1800000\n")
    (tmp_path / "scaling_governor").write_text("powersave\n")
    monkeypatch.setattr(machine, "CPU", tmp_path)
    monkeypatch.setattr(machine, "THERMAL", tmp_path)
    state = machine.state()
    assert (state["governor"], state["frequency_mhz"], state["temperature_c"]) == ("powersave", 1800.0, 51.5)
    monkeypatch.setattr(machine, "CPU", tmp_path / "absent")
    monkeypatch.setattr(machine, "THERMAL", tmp_path / "absent")
    state = machine.state()
    assert state["governor"] is state["frequency_mhz"] is state["temperature_c"] is None


def test_plan_names_known_variants_and_devices(monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = devices.plan()
    variants = read_yaml(ROOT / "params.yaml")["variants"]
    here = {name for name, variant in variants.items() if variant["format"] != "edgetpu"}
    assert {entry["variant"] for entry in plan.values() if entry["device"] == "local"} == here
    assert {entry["device"] for entry in plan.values()} == {"local"}, "dvc repro needs no hardware by default"
    for item, entry in plan.items():
        assert item == f"{entry['device']}-{entry['variant']}"
        device = devices.read(entry["device"])
        devices.check_runtime(device, variants[entry["variant"]]["format"])
    for name in devices.names():
        devices.read(name)


# the stage


@pytest.fixture
def project(models, tmp_path):
    """A working folder with a plan of two items: one with its model, one without."""
    params = read_yaml(ROOT / "params.yaml")
    params["benchmark"] = {"runs": 5, "warmup": 2, "threads": [1, 2]}
    graph = {"stages": {"benchmark": {"foreach": "${plan}", "do": {"cmd": "-", "params": ["benchmark"]}}}}
    plan = {
        "local-student-int8": {"device": "local", "variant": "student-int8"},
        "local-gone": {"device": "local", "variant": "gone"},
        "far-gone": {"device": "far", "variant": "gone"},
    }
    shutil.copytree(ROOT / "hardware_runners" / "inventory", tmp_path / "hardware_runners" / "inventory")
    shutil.copytree(models / "int8", tmp_path / "artifacts" / "models" / "student-int8")
    for name, tree in (("params", params), ("dvc", graph), ("hardware_runners/plan", {"plan": plan})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


def stage(project, *arguments):
    command = [sys.executable, "-m", "stages.benchmark", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def test_stage_writes_the_row(project):
    done = stage(project, "local-student-int8")
    assert done.returncode == 0, done.stderr
    row = json.loads((project / "artifacts" / "bench" / "local-student-int8.json").read_text())
    assert (row["device"], row["variant"], row["how"]) == ("local", "student-int8", "measured")
    assert [(block["threads"], len(block["samples_ms"])) for block in row["blocks"]] == [(1, 5), (2, 5)]
    assert "p50" in done.stdout


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["local-x"], 1, "no item 'local-x'; choose one of far-gone, local-gone, local-student-int8"),
        (["local-gone"], 1, "artifacts/models/gone: no such model folder"),
        (["far-gone"], 1, "inventory/far.yaml: no such device; choose one of local"),
        ([], 2, "give one item"),
    ],
)
def test_stage_errors_are_one_line(project, arguments, code, message):
    done = stage(project, *arguments)
    assert done.returncode == code and message in done.stderr and done.stderr.count("\n") == 1
    assert not (project / "artifacts" / "bench").exists()
