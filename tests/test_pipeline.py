"""The real stages on a toy-size dataset: what a run makes, what a changed key reruns, what a stage really reads."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pulled
import pytest
import toy
import yaml
from conftest import ROOT
from imports import closure

pytestmark = pytest.mark.slow

AFTER_TEACHER = {"distill", "compress", "compile@student-int8", "evaluate@student-int8", "illustrate", "report"}
BENCHMARKS = {f"benchmark@local-{v}" for v in toy.VARIANTS}
WATCH = """
import json, os, sys
log = os.environ.get("TOY_OPENED")
def note(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)) and not getattr(note, "busy", False):
        mode = args[1] or "r"
        if "r" in mode and "+" not in mode:
            note.busy = True
            with open(log, "a") as stream:
                stream.write(json.dumps([sys.orig_argv[1:], os.path.abspath(os.fsdecode(args[0]))]) + "\\n")
            note.busy = False
if log and "-m" in sys.orig_argv and any(a.startswith(("stages.", "hardware_runners.")) for a in sys.orig_argv):
    sys.addaudithook(note)
"""
HOLD = """
import os, sys, time
replace = os.replace
def held(source, target, **more):
    if str(target).endswith("artifacts/teacher"):
        time.sleep(300)
    replace(source, target, **more)
    if ".checkpoints/distill" in str(target):
        time.sleep(300)
if {"stages.teacher", "stages.distill"} & set(sys.orig_argv):
    os.replace = held
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A toy project after its first `dvc repro`; `opened` lists what every stage opened for reading."""
    folder = toy.make(tmp_path_factory.mktemp("toy"))
    watcher = tmp_path_factory.mktemp("watcher")
    (watcher / "sitecustomize.py").write_text(WATCH)
    log = watcher / "opened.jsonl"
    result = toy.dvc(folder, "repro", PYTHONPATH=str(watcher), TOY_OPENED=str(log))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (folder / "first.lock").write_text((folder / "dvc.lock").read_text())
    return folder, [json.loads(line) for line in log.read_text().splitlines()]


def test_first_run_ends_with_the_report(project):
    folder, _ = project
    rows = json.loads((folder / "reports/summary.json").read_text())
    assert {row["variant"] for row in rows} == set(toy.VARIANTS)
    for row in rows:
        assert 0 <= row["image_auroc"] <= 1 and row["latency_ms"]["p50"] > 0 and row["size_bytes"] > 1000
        assert row["macs"] > 1e5 and row["params"] > 1000
    page = (folder / "reports/index.html").read_text()
    assert "data:image/svg+xml;base64," in page and "not measured" in page
    shown = toy.dvc(folder, "metrics", "show", "--json")
    assert "student-int8" in shown.stdout
    assert toy.dvc(folder, "plots", "show", "--out", "plots_html").returncode == 0


def test_stages_read_only_what_they_declare(project):
    """Opened files of the repository against the declared dependencies; test images only from evaluate on."""
    folder, opened = project
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    params = yaml.safe_load((folder / "params.yaml").read_text())
    plan = yaml.safe_load((folder / "hardware_runners/plan.yaml").read_text())["plan"]
    seen: dict[str, set[str]] = {}
    for argv, path in opened:
        verb = next(a for a in argv if a.startswith(("stages.", "hardware_runners."))).split(".")[1]
        key = argv[-1].rpartition("@")[2] if verb in ("compile", "evaluate", "benchmark") else ""
        inside = Path(os.path.realpath(path))
        if inside.is_relative_to(folder.resolve()) and inside.is_file():
            seen.setdefault(f"{verb}@{key}", set()).add(str(inside.relative_to(folder.resolve())))
    assert {s.split("@")[0] for s in seen} == set(stages) - {"baseline"}  # the toy has none; see test_baseline.py
    # what the check of the parameters reads: it decides what is refused, not what a stage makes
    always = {"params.yaml", "dvc.yaml", "hardware_runners/plan.yaml", *closure("edge.inference.runtimes")}
    for stage, files in seen.items():
        verb, _, key = stage.partition("@")
        body = stages[verb].get("do", stages[verb])
        known = list(body["deps"]) + list(body.get("outs", [])) + list(body.get("plots", [])) + body.get("metrics", [])
        if verb == "benchmark":
            known += [f"artifacts/models/{e['variant']}" for e in plan.values()] if not key else []
        item = params["variants"].get(key) or plan.get(key) or {}
        filled = [re.sub(r"\$\{(item\.)?(\w+)\}", lambda m: item[m[2]] if m[1] else key, k) for k in known]  # noqa: B023
        outputs = tuple(f"{Path(k).parent}/." for k in filled)  # temporary places of outputs
        extra = {
            f
            for f in files - always
            if not any(f == k or f.startswith(f"{k}/") for k in filled)
            and not f.startswith(outputs)
            and "__pycache__" not in f
            and not f.startswith((".dvc", ".git"))  # DVCLive looks for its repository
        }
        assert not extra, f"{stage} reads what dvc.yaml does not declare: {sorted(extra)[:5]}"
        if verb not in ("fetch", "evaluate", "illustrate"):
            assert not [f for f in files if f.startswith("data/test")], f"{stage} opened a test image"
    assert [f for s, files in seen.items() if s.startswith("evaluate") for f in files if f.startswith("data/test")]


def test_second_run_runs_nothing(project):
    folder, _ = project
    result = toy.dvc(folder, "repro")
    assert result.returncode == 0 and not toy.ran(result)
    assert "up to date" in result.stdout


def test_a_fresh_clone_pulls_results_and_reruns_the_report_alone(project, tmp_path):
    """From a shared remote: nothing when nothing changed; after a change of the report, results and what `illustrate`
    drew, but no model, no map and no picture."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    shutil.copytree(project[0], origin, symlinks=True)
    assert toy.dvc(origin, "remote", "add", "-d", "store", str(tmp_path / "store")).returncode == 0
    for command in (["add", "-A"], ["commit", "-qm", "results"]):
        subprocess.run(["git", *command], cwd=origin, env=toy.environment(), check=True)
    assert toy.dvc(origin, "push").returncode == 0
    subprocess.run(["git", "clone", "-q", str(origin), str(clone)], env=toy.environment(), check=True)
    (clone / ".venv").mkdir()
    (clone / ".venv/.installed").touch()  # what runs the tests is installed

    def ci_report():
        environment = toy.environment(**pulled.watched(tmp_path / "watch", tmp_path / "store"))
        done = subprocess.run(["make", "ci-report"], cwd=clone, env=environment, capture_output=True, text=True)
        return done, pulled.objects(tmp_path / "watch")

    same, first = ci_report()
    assert same.returncode == 0 and not toy.ran(same), same.stderr
    assert md5(clone / "reports/index.html") in first  # what was read from the remote is seen
    page = (clone / "reports/ci.md").read_text()
    assert "- Ran (0): nothing" in page and "No figure changed." in page and "No setting changed." in page
    text = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(text.replace("title: Edge Vision", "title: A clone"))
    dirty, _ = ci_report()
    assert (
        "error: ci_report: params.yaml: changed and not committed" in dirty.stderr and "Traceback" not in dirty.stderr
    )
    toy.git(clone, "commit", "-qam", "title")
    changed, then = ci_report()
    assert changed.returncode == 0 and toy.ran(changed) == {"report"}, changed.stderr
    assert sum({**first, **then}.values()) < 5_000_000
    figures = [origin / "artifacts/eval" / f"{variant}.json" for variant in toy.VARIANTS]
    assert {md5(path) for path in figures} <= set(then)
    data = [path for folder in ("data", "artifacts/models") for path in (origin / folder).rglob("*.*")]
    left = {md5(path) for path in [*data, *(origin / "artifacts/eval").glob("*.npz")] if path.is_file()}
    assert len(left) > 20 and not left & {*first, *then}
    page = (clone / "reports/ci.md").read_text()
    assert "- Ran (1): report" in page and "| `report.title` | Edge Vision | A clone |" in page
    assert "No figure changed." in page and all(
        (clone / "reports" / p).exists() for p in re.findall(r"\]\(([^)]+)\)", page)
    )
    assert "A clone" in (clone / "reports/index.html").read_text()
    assert {path.name for path in (clone / "artifacts").iterdir()} == {"eval", "bench", "defects", "illustrations"}
    assert not (clone / "data/train").exists() and not (clone / "data/test").exists()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("report.title=Another", {"report"}),
        ("benchmark.runs=6", BENCHMARKS | {"illustrate", "report"}),
        ("report.examples=1", {"illustrate", "report"}),
        ("student.width=0.5", AFTER_TEACHER | {"defects", "benchmark@local-student-int8"}),
    ],
)
def test_a_changed_key_reruns_what_depends_on_it(project, change, expected):
    folder, _ = project
    result = toy.dvc(folder, "exp", "run", "-S", change)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert toy.ran(result) == expected


def stage_processes(folder: Path, stage: bytes = b"stages.") -> list[int]:
    """Processes of the stage, or of any, whose working folder is `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            if os.readlink(process / "cwd") == str(folder) and any(c.startswith(stage) for c in command):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_for(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_a_stage_whose_dvc_died_before_it_began_ends_at_once(tmp_path):
    """The kernel's signal comes too late for it: its parent is already the collector of orphans."""
    child = "import os, sys, time\nwhile os.getppid() == int(sys.argv[1]): time.sleep(0.01)\n"
    child += f"sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['-m']; import stages.fetch\n"
    child += f"open({str(tmp_path)!r} + '/went_on', 'w')"
    parent = "import os, subprocess, sys; command = [sys.executable, '-c', sys.argv[1], str(os.getpid())]"
    parent += "; print(subprocess.Popen(command).pid)"
    for stage, expected in (({"DVC_STAGE": "teacher"}, False), ({}, True)):
        begun = subprocess.run(
            [sys.executable, "-c", parent, child],
            env=toy.environment(**stage),
            start_new_session=True,
            capture_output=True,
            text=True,
            check=True,
        )
        assert wait_for(lambda: not Path(f"/proc/{begun.stdout.strip()}/exe").exists(), 10)  # noqa: B023
        assert (tmp_path / "went_on").exists() == expected


def test_killed_runs_leave_no_orphan_and_equal_outputs(project, tmp_path):
    """kill -9 of dvc, of a stage, of a training; what is made afterwards equals the first project byte for byte.

    What is killed never comes to its end before: a teacher stays before its output, a training after its first epoch.
    """
    reference, _ = project
    folder = toy.make(tmp_path / "second").resolve()
    (tmp_path / "hold").mkdir()
    (tmp_path / "hold/sitecustomize.py").write_text(HOLD)
    hold = {"PYTHONPATH": str(tmp_path / "hold")}
    for victim in ("dvc", "stage"):
        run = subprocess.Popen(
            [*toy.dvc_command(), "repro", "distill"],
            cwd=folder,
            env=toy.environment(SHELL="/bin/sh", **hold),  # dash, unlike bash, stays as the parent of what it runs
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert wait_for(lambda: stage_processes(folder, b"stages.teacher"), 60)
        time.sleep(1.5)  # in the middle of its imports or its work
        os.kill(run.pid if victim == "dvc" else stage_processes(folder, b"stages.teacher")[0], signal.SIGKILL)
        assert run.wait(30) != 0
        assert wait_for(lambda: not stage_processes(folder), 20), "a stage outlived its dvc"
        assert not (folder / "artifacts/teacher").exists()
    assert toy.dvc(folder, "repro", "teacher").returncode == 0
    run = subprocess.Popen(
        [*toy.dvc_command(), "repro", "distill"],
        cwd=folder,
        env=toy.environment(**hold),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert wait_for(lambda: list((folder / ".checkpoints/distill").glob("*.safetensors")), 120)
    run.kill()
    assert run.wait(30) != 0 and wait_for(lambda: not stage_processes(folder), 20)
    assert not (folder / "artifacts/student").exists()
    result = toy.dvc(folder, "repro", *(f"compile@{v}" for v in toy.VARIANTS))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "distill: distill goes on after 1 of 4 epochs" in result.stdout
    assert not (folder / ".checkpoints/distill").exists()
    first, second = (yaml.safe_load(p.read_text())["stages"] for p in (reference / "first.lock", folder / "dvc.lock"))
    for name, stage in second.items():
        wanted = {out["path"]: out["md5"] for out in first[name]["outs"]}
        for out in stage["outs"]:
            assert out["md5"] == wanted[out["path"]], f"{name}: {out['path']} differs between two runs"


def test_damaged_cache_object_is_found_by_the_stage(project):
    folder, _ = project
    target = folder / "artifacts/teacher/bank.safetensors"
    content = target.read_bytes()
    target.chmod(0o644)
    target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = subprocess.run(
        ["python", "-m", "stages.distill"], cwd=folder, env=toy.environment(), capture_output=True, text=True
    )
    target.write_bytes(content)
    assert result.returncode == 1
    assert (
        result.stderr.strip().splitlines()[-1].startswith("error: distill: artifacts/teacher/bank.safetensors: damaged")
    )
    assert "Traceback" not in result.stderr


def test_full_disk_is_one_line(project):
    folder, _ = project
    temporary = folder / "artifacts/eval/.student-int8.json.tmp"
    temporary.symlink_to("/dev/full")
    result = subprocess.run(
        ["python", "-m", "stages.evaluate", "student-int8"],
        cwd=folder,
        env=toy.environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: evaluate@student-int8: disk full")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("student.width=wide", "student.width = 'wide'"),
        ("teacher.backbone=./nowhere", "teacher.backbone = ./nowhere: no such folder"),
    ],
)
def test_bad_params_are_one_line(project, change, message):
    folder, _ = project
    stage = "teacher" if change.startswith("teacher") else "distill"
    key, value = change.split("=")
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    original = (folder / "params.yaml").read_text()
    toy.put(tree, key, value)
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    result = subprocess.run(
        ["python", "-m", f"stages.{stage}"], cwd=folder, env=toy.environment(), capture_output=True, text=True
    )
    (folder / "params.yaml").write_text(original)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 1 and len(errors) == 1 and message in errors[0]
    assert "Traceback" not in result.stderr


def test_without_pruning_there_is_nothing_to_fine_tune(project):
    """Last here: it leaves other files behind than dvc.lock has."""
    folder, _ = project
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    toy.put(tree, "compress.prune_ratio", 0)
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    subprocess.run(["python", "-m", "stages.compress"], cwd=folder, env=toy.environment(), check=True)
    student, pruned, qat, both = (folder / f"artifacts/{n}" for n in ("student", "pruned", "qat", "pruned-qat"))
    for one, other in ((student, pruned), (qat, both)):
        assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
