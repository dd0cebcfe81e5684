"""The shared remote, in a folder, over SSH and in S3: another clone gets results, or one line. Whole graph:
test_pipeline."""

import json
import subprocess
import urllib.request

import pytest
import ssh_hosts
import toy
from conftest import one_line

from edge.errors import UserError
from experiments import shared

GRAPH = "stages: {make: {cmd: cp a b, deps: [a], outs: [b]}}\n"


@pytest.fixture(scope="module")
def bucket():
    """The address of an S3 server with an empty bucket `shared`."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(f"{address}/shared", method="PUT")).close()
    yield address
    server.stop()


def remote(kind: str, tmp_path, request) -> tuple[dict[str, str], dict[str, str], dict[str, str] | None]:
    """Its settings, the environment of who may use it, and that of who may not."""
    if kind == "folder":
        return {"url": str(tmp_path / "store")}, {}, None
    if kind == "s3":
        pytest.importorskip("dvc_s3")
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
        nobody = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
        return {"url": "s3://shared/edge", "endpointurl": request.getfixturevalue("bucket")}, keys, nobody
    home = tmp_path / "home"
    home.mkdir()
    host = ssh_hosts.Host(tmp_path / "host", home, 0)
    request.addfinalizer(host.close)
    host.trust()
    (tmp_path / "nobody/.ssh").mkdir(parents=True)
    (tmp_path / "nobody/.ssh/known_hosts").write_text((home / ".ssh/known_hosts").read_text())
    nobody = {"HOME": str(tmp_path / "nobody"), "SSH_AUTH_SOCK": ""}
    return {"url": f"ssh://root@{host.address}:{host.port}{tmp_path}/store"}, {"HOME": str(home)}, nobody


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "ssh", "s3"])
def test_a_clone_gets_what_another_made(kind, tmp_path, request, monkeypatch):
    settings, mine, nobody = remote(kind, tmp_path, request)
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    (origin / "dvc.yaml").write_text(GRAPH)
    (origin / "a").write_text("1")
    toy.git(origin, "init", "-q")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    own = [["remote", "modify", "store", key, value] for key, value in settings.items() if key != "url"]
    for command in (["init", "-q"], ["remote", "add", "--default", "store", settings["url"]], *own, ["repro", "-q"]):
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
            for name in mine:
                stranger.delenv(name)
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
