"""A stage: what it sees of params.yaml, and how it ends."""

import errno
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from test_params import TREE, changed

from edge.errors import UserError
from stages.common import params, stage

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())


def leaves(view, prefix: str = "") -> set[str]:
    """Dotted names of everything a stage's view holds."""
    found = set()
    for name, value in vars(view).items():
        dotted = f"{prefix}{name}"
        found |= leaves(value, f"{dotted}.") if isinstance(value, params.StageParams) else {dotted}
    return found


@pytest.mark.parametrize("stage", ["fetch", "teacher", "distill", "compress", "compile", "evaluate", "report"])
def test_a_stage_sees_the_declared_keys_only(stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    body = DVC["stages"][stage]
    declared = {key.replace("${key}", "student-int8") for key in body.get("do", body)["params"]}
    view = params.load(f"{stage}@student-int8" if "do" in body else stage)
    assert leaves(view) == declared
    for undeclared in set(TREE) - {key.split(".")[0] for key in declared}:
        with pytest.raises(AttributeError, match=f"'{undeclared}' is not declared"):
            getattr(view, undeclared)


def test_compile_sees_its_own_variant_only(monkeypatch):
    monkeypatch.chdir(ROOT)
    view = params.load("compile@student-int8")
    assert getattr(view.variants, "student-int8").precision == "int8"
    assert view.input.size == TREE["input"]["size"] and view.seed == TREE["seed"]
    with pytest.raises(AttributeError, match="'teacher-onnx' is not declared"):
        getattr(view.variants, "teacher-onnx")
    with pytest.raises(AttributeError, match="'student' is not declared"):
        _ = view.student.width


def test_compress_sees_two_keys_of_distill(monkeypatch):
    monkeypatch.chdir(ROOT)
    view = params.load("compress")
    assert (view.distill.images, view.distill.batch) == (TREE["distill"]["images"], TREE["distill"]["batch"])
    with pytest.raises(AttributeError, match="'epochs' is not declared"):
        _ = view.distill.epochs


def test_benchmark_leaves_out_the_params_of_another_file(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert leaves(params.load("benchmark@local-student-int8")) == {"benchmark"}


def test_null_is_a_value(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert params.load("fetch").data.path is None


def test_a_declared_variant_that_is_gone_is_named(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"params\.yaml: variants\.nothing\.model: missing"):
        params.load("compile@nothing")


def test_a_stage_with_bad_params_ends_in_one_line(tmp_path):
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed({"student.width": "wide"})))
    command = [sys.executable, "-m", "stages.fetch"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ") and "student.width = 'wide'" in result.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"dvc.yaml", "params.yaml"}, "nothing was written"


@pytest.mark.parametrize("error", [PermissionError, RuntimeError])  # of Python, of a library
def test_a_folder_that_is_not_ours_ends_in_one_line(error, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    reason = os.strerror(errno.EACCES)

    def write(_):
        raise error(f"I/O error: {reason}") if error is RuntimeError else error(errno.EACCES, reason, ".checkpoints")

    with pytest.raises(SystemExit) as ended:
        stage.main("fetch", write)
    line = capsys.readouterr().err
    assert ended.value.code == 1 and line.count("\n") == 1 and line.startswith("error: fetch: ") and reason in line


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: error code 12 (Cannot allocate memory)"), "not enough memory"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000), "File name too long; check the paths"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "data"), "make it writable"),
        (UserError("a name\nwith \ud800 in it"), r"a name\nwith \ud800 in it"),
    ],
    ids=["numpy", "torch", "name", "mount", "text"],
)
def test_what_the_machine_refuses_is_one_line(error, words, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)

    def run(_):
        raise error

    with pytest.raises(SystemExit) as ended:
        stage.main("fetch", run)
    line = capsys.readouterr().err
    assert ended.value.code == 1 and line.count("\n") == 1 and words in line and len(line) < 300


def test_an_error_of_the_program_stays_a_traceback(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(KeyError):
        stage.main("fetch", lambda _: {}["no such key"])
