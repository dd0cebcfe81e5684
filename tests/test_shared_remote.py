"""The shared remote, in a folder and over SSH: another clone gets results, or one line. Whole graph: test_pipeline."""

import json
import subprocess

import pytest
import ssh_hosts
import toy
from conftest import one_line

from edge.errors import UserError
from experiments import shared

GRAPH = "stages: {make: {cmd: cp a b, deps: [a], outs: [b]}}\n"


def remote(kind: str, tmp_path, request) -> tuple[str, dict, dict | None]:
    """Its address, the environment of who may use it, and that of who may not."""
    if kind == "folder":
        return str(tmp_path / "store"), {}, None
    home = tmp_path / "home"
    home.mkdir()
    host = ssh_hosts.Host(tmp_path / "host", home, 0)
    request.addfinalizer(host.close)
    host.trust()
    (tmp_path / "nobody/.ssh").mkdir(parents=True)
    (tmp_path / "nobody/.ssh/known_hosts").write_text((home / ".ssh/known_hosts").read_text())
    nobody = {"HOME": str(tmp_path / "nobody"), "SSH_AUTH_SOCK": ""}
    return f"ssh://root@{host.address}:{host.port}{tmp_path}/store", {"HOME": str(home)}, nobody


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "ssh"])
def test_a_clone_gets_what_another_made(kind, tmp_path, request, monkeypatch):
    url, mine, nobody = remote(kind, tmp_path, request)
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    (origin / "dvc.yaml").write_text(GRAPH)
    (origin / "a").write_text("1")
    toy.git(origin, "init", "-q")
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    for command in (["init", "-q"], ["remote", "add", "--default", "store", url], ["repro", "-q"]):
        done = toy.dvc(origin, *command)
        assert done.returncode == 0, done.stderr
    toy.git(origin, "add", "-A")
    toy.git(origin, "commit", "-qm", "made")
    toy.git(origin, "clone", "-q", str(origin), str(clone))
    monkeypatch.chdir(clone)
    with pytest.raises(UserError, match=r"dvc pull failed: the remote doesn't hold what dvc\.lock names"):
        shared.pull("b")
    done = toy.dvc(origin, "push", "--run-cache")
    assert done.returncode == 0, done.stderr
    if nobody is not None:
        with monkeypatch.context() as stranger:
            for name, value in nobody.items():
                stranger.setenv(name, value)
            with pytest.raises(UserError, match="no access to the remote: credentials are missing or wrong"):
                shared.pull("b")
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
