"""A toy-size copy of the project: the real stages on few, small pictures and two variants, in minutes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from conftest import ROOT

from stages.report import dependencies

VARIANTS = ("teacher-onnx", "student-int8")
SIZES = {
    "data.synthetic": {"size": 64, "train": 24, "test_good": 6, "test_per_defect": 2},
    "input.size": 64,
    "teacher.simclr_steps": 4,
    "teacher.simclr_batch": 8,
    "teacher.coreset_max_patches": 2000,
    "distill.images": 32,
    "distill.epochs": 4,
    "compress.finetune_epochs": 1,
    "compile.calibration_images": 4,
    "compile.fidelity.images": 4,
    "student.width": 0.25,
    "benchmark.runs": 5,
    "benchmark.warmup": 1,
    "report.examples": 2,
}


def put(tree: dict, dotted: str, value) -> None:
    """Sets tree["a"]["b"] for "a.b"."""
    *parents, leaf = dotted.split(".")
    for part in parents:
        tree = tree[part]
    tree[leaf] = value


def make(folder: Path, **changes) -> Path:
    """A git and DVC repository in `folder` with the project's tracked files, toy params and VARIANTS, no baseline."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = ROOT / name
        if source.is_file() and not name.startswith(("tests/", ".dvc/", "dvc.lock")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for dotted, value in {**SIZES, **{k.replace("__", "."): v for k, v in changes.items()}}.items():
        put(params, dotted, value)
    params["variants"] = {k: v for k, v in params["variants"].items() if k in VARIANTS}
    params["baselines"] = {}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    plan = {"plan": {f"local-{v}": {"device": "local", "variant": v} for v in VARIANTS}}
    (folder / "hardware_runners/plan.yaml").write_text(yaml.safe_dump(plan))
    graph = dependencies.fill((folder / "dvc.yaml").read_text(), params["variants"], plan["plan"], params["baselines"])
    (folder / "dvc.yaml").write_text(graph)
    for command in (
        ["git", "init", "-q"],
        [*dvc_command(), "init", "-q"],
        [*dvc_command(), "config", "core.analytics", "false"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=toy", "-c", "user.email=toy@example.org", "commit", "-qm", "toy"],
    ):
        subprocess.run(command, cwd=folder, check=True, env=environment())
    return folder


def dvc_command() -> list[str]:
    return [sys.executable, "-m", "dvc"]


def environment(**more: str) -> dict[str, str]:
    """The environment of a user who activated this virtual environment."""
    home = str(Path(sys.executable).parent)
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    author = {"GIT_AUTHOR_NAME": "toy", "GIT_AUTHOR_EMAIL": "toy@example.org"}
    author |= {"GIT_COMMITTER_NAME": "toy", "GIT_COMMITTER_EMAIL": "toy@example.org"}
    return clean | author | {"PATH": home + os.pathsep + os.environ["PATH"]} | more


def git(folder: Path, *arguments: str) -> str:
    """Runs git in `folder`; what it printed."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=True).stdout


def dvc(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """Runs dvc in `folder`; output and errors as text."""
    command = [*dvc_command(), *arguments]
    return subprocess.run(command, cwd=folder, env=environment(**more), capture_output=True, text=True)


def ran(result: subprocess.CompletedProcess) -> set[str]:
    """The stages that a dvc run really ran."""
    return set(re.findall(r"Running stage '([^']+)'", result.stdout + result.stderr))
