"""The runners' command line on a real SSH server, the inventory's schema, what is sent to a device."""

import json
import re
import shutil

import numpy as np
import pytest
import runner_project
import ssh_hosts
import yaml
from conftest import ROOT

from edge.inference import scoring
from hardware_runners.commands import accuracy, bench, enrol, look
from hardware_runners.runner import devices, fingerprint
from hardware_runners.runner.devices import Device
from hardware_runners.runner.errors import RunnerError
from hardware_runners.runner.transports import bundle

SSH = {"name": "pi5", "transport": "ssh", "ssh": {"host": "pi5.local", "user": "pi"}, "python": "python3"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    with runner_project.project(tmp_path_factory.mktemp("runners"), ["pia"], runs=20) as made:
        yield made


# the inventory


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"color": "red"}, "x.yaml: color: unknown key; remove it or correct its name"),
        ({"transport": "pigeon"}, "x.yaml: transport = 'pigeon': Input should be 'local' or 'ssh'"),
        ({"python": None}, "transport: ssh needs ssh.host and python"),
        ({"ssh": {"host": "-oProxyCommand=x"}}, "x.yaml: ssh.host = '-oProxyCommand=x': "),
        ({"ssh": {"host": "pi", "port": 0}}, "x.yaml: ssh.port = 0: Input should be greater than or equal to 1"),
        ({"runtime": ["ncnn"]}, "x.yaml: runtime.0 = 'ncnn': must be one of ai-edge-litert, tflite-runtime, "),
        ({"energy": {"source": "solar"}}, "x.yaml: energy.source = 'solar': "),
        ({"energy": {"source": "meter"}}, "source: meter needs either file or port"),
        ({"limits": {"run_s": 0}}, "x.yaml: limits.run_s = 0: Input should be greater than 0"),
        ({"folder": "."}, "x.yaml: folder = '.': must be a folder for this alone"),
        ({"folder": "a/.."}, "x.yaml: folder = 'a/..': must be a folder for this alone"),
        ({"folder": "/"}, "x.yaml: folder = '/': must be a folder for this alone"),
        ({"folder": "~/"}, "x.yaml: folder = '~/': must be a folder for this alone"),
        ({"folder": "a\0b"}, "must be a folder for this alone"),
        ({"name": None}, "x.yaml: name = None: Input should be a valid string"),
    ],
)
def test_a_wrong_inventory_file_is_one_line(change, message):
    with pytest.raises(RunnerError) as caught:
        devices.check({**SSH, **change}, "x.yaml")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_every_key_of_an_inventory_file_is_in_the_guide():
    text = (ROOT / "hardware_runners/README.md").read_text()
    for section in (Device, devices.Address, devices.Energy, devices.Limits):
        for key in section.model_fields:
            assert f"`{key}`" in text, f"{section.__name__}.{key} is not explained"


def test_host_keys_are_always_checked():
    """known_hosts=None would switch the check off; client_keys=None the agent."""
    for path in (ROOT / "hardware_runners").rglob("*.py"):
        text = path.read_text()
        assert "known_hosts=" not in text and "client_keys" not in text and "password" not in text, path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("StrictHostKeyChecking no", "host key not verified"),
        ("UserKnownHostsFile /dev/null", "host key not verified"),
        ("UserKnownHostsFile none", "switches the check of host keys off for "),
    ],
)
def test_no_setting_of_the_user_lets_an_unknown_key_pass(project, option, message):
    """The key of the server is not the one in known_hosts."""
    known = project.home / ".ssh/known_hosts"
    kept = known.read_text()
    known.write_text("")
    config = project.home / ".ssh/config"
    config.write_text(f"Host *\n  {option}\n")
    try:
        done = project.runners("probe", "pia")
    finally:
        known.write_text(kept)
        config.unlink()
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert known.read_text() == kept


def test_a_runtime_that_cannot_run_the_variant_is_named():
    device = devices.check({**SSH, "runtime": ["tflite-runtime"]}, "x")
    devices.check_runtime(device, "tflite")
    with pytest.raises(RunnerError, match=r"runtime = \['tflite-runtime'\]: none of them runs a onnx model"):
        devices.check_runtime(device, "onnx")


def test_a_changed_fingerprint_names_each_key():
    device = devices.check({**SSH, "fingerprint": {"kernel": "6.6", "governor": "ondemand", "numpy": "2.0"}}, "x")
    fingerprint.compare(device, {"kernel": "6.6", "governor": "ondemand", "numpy": "2.0"})
    with pytest.raises(RunnerError) as caught:
        fingerprint.compare(device, {"kernel": "6.12", "governor": "ondemand", "onnxruntime": "1.2"})
    for words in ("kernel was '6.6', is '6.12'", "numpy was '2.0', is None", "onnxruntime was None, is '1.2'"):
        assert words in str(caught.value)
    assert "governor" not in str(caught.value) and "enrol pi5 pi5.local --again" in str(caught.value)
    with pytest.raises(RunnerError, match="governor was 'ondemand', is 'performance'"):
        fingerprint.compare(device, {"kernel": "6.6", "governor": "performance", "numpy": "2.0"})
    set_by_us = device.model_copy(update={"may_change": ["governor"]})
    fingerprint.compare(set_by_us, {"kernel": "6.6", "governor": "performance", "numpy": "2.0"})


def test_a_changed_local_device_is_one_line():
    device = devices.check({"name": "here", "transport": "local", "fingerprint": {"kernel": "6.6"}}, "x")
    fingerprint.compare(device, {"kernel": "6.6"})
    with pytest.raises(RunnerError, match=r"kernel was '6\.6', is '6\.12'; .* enrol here localhost --again"):
        fingerprint.compare(device, {"kernel": "6.12"})


# what is sent


def test_bundles_are_named_by_their_content(tmp_path):
    (tmp_path / "model.json").write_text("{}")
    first = bundle.model(tmp_path)
    assert bundle.model(tmp_path) == first and first.name.startswith("model-")
    (tmp_path / "model.json").write_text("{ }")
    assert bundle.model(tmp_path).name != first.name
    sent = set(bundle.code().files)
    assert {
        "edge/inference/runtimes/tflite.py",
        "hardware_runners/runner/remote/supervise.py",
        "hardware_runners/runner/energy/rapl.py",
    } <= sent
    assert not [name for name in sent if name.startswith(("stages", "hardware_runners/runner/transports", "edge/app"))]


@pytest.mark.slow
def test_the_device_gets_everything_once_and_keeps_no_part(project):
    folder = project.hosts["pia"].folder / "device"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / ".tmp-999999999").mkdir(parents=True)  # of a run that was killed
    assert project.runners("probe", "pia").returncode == 0
    (code,) = folder.glob("code-*")
    assert {path.name for path in folder.iterdir()} == {code.name, ".edge-vision"}
    stamp = (code / "edge/inference/runtimes/tflite.py").stat().st_mtime_ns
    assert code.name == bundle.code().name
    assert project.runners("probe", "pia").returncode == 0
    assert (code / "edge/inference/runtimes/tflite.py").stat().st_mtime_ns == stamp and len(list(folder.iterdir())) == 2


# the commands


@pytest.mark.slow
def test_enrol_wrote_inventory_plan_and_dependencies(project):
    item = f"pia-{runner_project.VARIANT}"
    plan = yaml.safe_load((project.folder / "hardware_runners/plan.yaml").read_text())["plan"]
    assert plan == {item: {"device": "pia", "variant": runner_project.VARIANT}}
    graph = yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"]
    assert all(f"artifacts/bench/{item}.json" in graph[stage]["deps"] for stage in ("illustrate", "report"))
    device = yaml.safe_load((project.folder / "hardware_runners/inventory/pia.yaml").read_text())
    assert device["fingerprint"]["kernel"] and "ai-edge-litert" in device["runtime"]
    assert not list(project.home.glob(".ssh/*_tmp"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["enrol", "pia", "10.0.0.1"], 1, "inventory/pia.yaml: is there; use --again or another name"),
        (["enrol", "pib", "10.0.0.1", "--again"], 1, "inventory/pib.yaml: no such device; leave out --again"),
        (["enrol", "Big One", "10.0.0.1"], 1, "enrol: name = 'Big One': String should match pattern"),
        (["probe", "nothing"], 1, "inventory/nothing.yaml: no such device; choose one of local, pia"),
        (["bench", "local"], 1, "no item for device local"),
        (["accuracy", "pia", "nothing"], 1, "artifacts/eval/nothing.npz: not found; run dvc repro evaluate@nothing"),
    ],
)
def test_errors_are_one_line(project, arguments, code, message):
    before = {p: p.read_bytes() for p in project.folder.glob("hardware_runners/**/*.yaml")}
    done = project.runners(*arguments)
    assert done.returncode == code and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert {p: p.read_bytes() for p in project.folder.glob("hardware_runners/**/*.yaml")} == before


@pytest.mark.slow
def test_list_probe_doctor(project):
    lines = project.runners("list").stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["local", "pia"]
    assert f"measures {runner_project.VARIANT}" in lines[1] and "energy none" in lines[1]
    found = project.runners("probe", "pia")
    assert found.returncode == 0 and json.loads(found.stdout)["versions"]["numpy"]
    assert project.runners("doctor", "pia").stdout == "pia: nothing is missing\n"
    project.change("pia", runtime=["edgetpu", "tflite-runtime"])
    done = project.runners("doctor", "pia")
    assert done.returncode == 1 and "missing: Edge TPU runtime: sudo apt install libedgetpu1-std" in done.stdout
    assert re.search(r"missing: tflite-runtime: \S+python -m pip install tflite-runtime", done.stdout)
    project.change("pia", runtime=["onnxruntime"])


@pytest.mark.slow
def test_enrol_again_writes_the_new_fingerprint_alone(project):
    path = project.folder / "hardware_runners/inventory/pia.yaml"
    kept = path.read_text()
    path.write_text(kept.replace("kernel: ", "kernel: 0-"))
    assert "changed since it was enrolled" in project.runners("probe", "pia").stderr
    done = project.runners("enrol", "pia", project.hosts["pia"].address, "--again")
    assert done.returncode == 0 and path.read_text() == kept


NEW = {"fingerprint": {"kernel": "6.12", "cores": 4, "numpy": None}}


@pytest.mark.parametrize(
    "old",
    [
        "fingerprint:\n  kernel: '6.6'\n  cores: 4\n",
        "fingerprint:\n  kernel: '6.6'\n  # of the old board\n  cores: 4\n\n",
        "fingerprint: {kernel: '6.6',\n  cores: 4}   # of the old board\n",
        "fingerprint: null\n",
        "fingerprint:\n",
        "",
    ],
)
@pytest.mark.parametrize("after", ["", "# by hand\nemulated: true\nlimits:\n  run_s: 5.0\n", "notes: 'fingerprint: x'"])
def test_a_new_fingerprint_changes_nothing_else(old, after):
    """Keys and remarks before and after it, words like it, and a file without one."""
    before = "# the fingerprint: below\nname: pi5   # here\nnotes: |\n  fingerprint: no\n"
    after = after.replace("notes", "tags: []\npython") if after else after
    text = enrol.with_fingerprint(before + old + after, NEW)
    kept = yaml.safe_load(before + old + after)
    assert yaml.safe_load(text) == {**kept, "fingerprint": NEW["fingerprint"]}
    assert text.startswith(before) and after.rstrip("\n") in text
    assert enrol.with_fingerprint(text, NEW) == text, "a second time changes nothing"


def test_a_file_that_cannot_be_changed_in_place_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    for text in ("{name: a, transport: local}\n", "name: a\n...\n", "a: &f {kernel: 1}\nfingerprint: *f\nb: *f\n"):
        tree = {**yaml.safe_load(text), **NEW}
        with pytest.raises(RunnerError, match=r"x\.yaml: can't be changed in place") as caught:
            enrol.means(path, enrol.with_fingerprint(text, NEW), tree)
        assert "\n" not in str(caught.value)
    plan = "plan:\n    a: {device: b, variant: c}\n"
    with pytest.raises(RunnerError, match="can't be changed in place"):
        enrol.means(path, enrol.with_items(plan, "x", ["y"]), {})


@pytest.mark.slow
def test_enrol_again_keeps_what_stands_after_the_fingerprint(project):
    path = project.folder / "hardware_runners/inventory/pia.yaml"
    kept = path.read_text()
    try:
        path.write_text(kept + "# by hand\nemulated: true\n")
        wanted = path.read_text()
        path.write_text(wanted.replace("kernel: ", "kernel: 0-"))
        done = project.runners("enrol", "pia", project.hosts["pia"].address, "--again")
        assert done.returncode == 0 and path.read_text() == wanted, done.stderr
        tree = yaml.safe_load(kept)
        del tree["fingerprint"]
        path.write_text(yaml.safe_dump({**tree, "emulated": True}))
        done = project.runners("enrol", "pia", project.hosts["pia"].address, "--again")
        assert done.returncode == 0 and yaml.safe_load(path.read_text()) == yaml.safe_load(wanted), done.stderr
    finally:
        path.write_text(kept)


def test_what_a_bare_device_lacks():
    found = {
        "machine": {"python": "3.8.10", "architecture": "armv7l"},
        "versions": dict.fromkeys(("numpy", "opencv", "ai-edge-litert", "tflite-runtime", "onnxruntime")),
        "delegates": {"edgetpu": False},
        "energy": [],
        "free_mb": 20.0,
    }
    lines = look.diagnose(devices.check({**SSH, "energy": {"source": "pmic"}}, "x"), found)
    assert [line.split(":")[0] for line in lines] == [
        "Python 3.9 or newer (it has 3.8.10)",
        *("numpy", "opencv", "tflite-runtime", "room", "energy source pmic"),
    ]


@pytest.mark.slow
def test_an_old_python_there_is_one_line(project, tmp_path):
    """A stand-in that says it is 3.6, as on the first Jetson Nano."""
    old = tmp_path / "python3"
    code = "import sys; sys.version_info = (3, 6, 9); exec(sys.argv[2])"
    old.write_text(f"#!/bin/sh\nexec {ssh_hosts.PYTHON} -c '{code}' \"$@\"\n")
    old.chmod(0o755)
    project.change("pia", python=str(old))
    done = project.runners("doctor", "pia")
    project.change("pia", python=str(ssh_hosts.PYTHON))
    assert done.returncode == 1 and "is Python 3.6.9: install 3.9 or newer there" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_accuracy_on_the_device(project):
    """The device's scores against an evaluation of the same file, one score changed by hand."""
    path = project.folder / f"artifacts/eval/{runner_project.VARIANT}.npz"
    kept = path.read_bytes()
    items = dict(np.load(path))
    scores = runner_project.scores(project, [str(name) for name in items["path"]])
    wrong = scores.copy()
    wrong[0] = 1e6 if scores[0] <= 0.5 else -1e6
    for here, differ in ((scores, 0), (wrong, 1)):
        np.savez(path, **{**items, "score": here})
        done = project.runners("accuracy", "pia", runner_project.VARIANT, "--images", "100")
        found = json.loads(done.stdout)
        assert done.returncode == differ and found["verdicts_that_differ"] == differ, done.stderr
        assert found["images"] == len(scores) and (found["largest_difference"] < 1e-4) == (differ == 0)
        assert (
            json.loads((project.folder / f"artifacts/accuracy/pia-{runner_project.VARIANT}.json").read_text()) == found
        )
    path.write_bytes(kept)


def test_auroc_and_spread():
    labels = np.array([0, 0, 0, 1, 1, 0])
    assert scoring.auroc(labels, np.array([0.1, 0.2, 0.5, 0.5, 0.9, 0.3])) == pytest.approx((3.5 + 4) / 8)
    assert scoring.auroc(labels * 0, labels.astype(float)) is None
    assert sorted(accuracy.spread(labels, 4)) == [0, 3, 4, 5]


# plan and graph


def test_the_default_plan_needs_no_hardware(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert {entry["device"] for entry in devices.plan().values()} == {"local"}


def test_new_items_keep_comments_and_graph(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = enrol.with_items(devices.PLAN.read_text(), "pi5", ["student-int8"])
    assert (
        text.startswith(devices.PLAN.read_text())
        and "  pi5-student-int8: {device: pi5, variant: student-int8}\n" in text
    )
    assert enrol.with_items("plan: {}\n", "a", ["b"]) == "plan:\n  a-b: {device: a, variant: b}\n"
    assert bench.LAST == ("benchmark", "illustrate", "report")
