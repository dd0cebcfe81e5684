"""The shared remote: another clone gets results instead of running, or one line. The whole graph: test_pipeline.py."""

import json
import subprocess

import pytest
import toy
from conftest import one_line

from edge.errors import UserError
from experiments import shared

GRAPH = "stages: {make: {cmd: cp a b, deps: [a], outs: [b]}}\n"


@pytest.mark.slow
def test_a_clone_gets_what_another_made(tmp_path, monkeypatch):
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    (origin / "dvc.yaml").write_text(GRAPH)
    (origin / "a").write_text("1")
    toy.git(origin, "init", "-q")
    store = str(tmp_path / "store")
    for command in (["init", "-q"], ["remote", "add", "--default", "store", store], ["repro", "-q"]):
        done = toy.dvc(origin, *command)
        assert done.returncode == 0, done.stderr
    toy.git(origin, "add", "-A")
    toy.git(origin, "commit", "-qm", "made")
    toy.git(origin, "clone", "-q", str(origin), str(clone))
    monkeypatch.chdir(clone)
    with pytest.raises(UserError, match=r"dvc pull failed: the remote doesn't hold what dvc\.lock names"):
        shared.pull("b")
    assert toy.dvc(origin, "push", "--run-cache").returncode == 0
    assert shared.reproduce() == {"ran": [], "restored": [], "unchanged": ["make"]}
    assert not (clone / "b").exists()
    shared.pull("b")
    assert (clone / "b").read_text() == "1"
    for name in ("dvc.lock", "b"):  # never seen here: what the run cache is for
        (clone / name).unlink()
    assert shared.reproduce()["restored"] == ["make"]
    assert json.loads(toy.dvc(clone, "status", "--json").stdout) == {}


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("ERROR: unexpected error - Unable to locate credentials", "no access to the remote"),
        ("ERROR: unexpected error - Permission denied for user root on host 10.0.0.1", "no access to the remote"),
        ("ERROR: unexpected error - s3 is supported, but requires 'dvc-s3' to be installed", "pip install dvc-ssh or"),
        ("ERROR: failed to reproduce 'x': missing data 'source': data/train", "doesn't hold what dvc.lock names"),
        (
            "error: make: no permission denied\nERROR: failed to reproduce",
            "dvc repro failed: make: no permission denied",
        ),
        ("ERROR: something else", "dvc repro failed: something else"),
        ("", "dvc repro failed: no reason given"),
    ],
)
def test_what_dvc_says_is_one_line_that_tells_what_to_do(said, meaning):
    with pytest.raises(UserError) as caught:
        shared._succeed(subprocess.CompletedProcess([], 1, said), "dvc repro")
    assert meaning in one_line(caught)
