"""The engines of a sweep: which addresses they take, their workers over SSH and by Slurm, and how long they are waited
for."""

import getpass
import os
import shutil
import sys
from pathlib import Path

import pytest
import ssh_hosts
import sweep_project

from edge.errors import UserError
from experiments import engines


@pytest.fixture
def toy_project(tmp_path):
    return sweep_project.make(tmp_path / "project")


@pytest.mark.parametrize(
    "name, told",
    [
        ("ray", "there are local, dask://HOST:PORT"),
        ("local://4", "takes no address"),
        ("dask", "give the scheduler as dask://HOST:PORT"),
        ("dask://host:0", "give the scheduler as"),
        ("dask://:8786", "give the scheduler as"),
        ("dask://host:²", "give the scheduler as"),
        ("ssh", "give hosts as ssh://HOST,HOST"),
        ("ssh://a,,b", "give hosts as"),
        ("ssh://me@a", "~/.ssh/config says user and port"),
    ],
)
def test_an_engine_that_cant_be_is_refused(name, told):
    with pytest.raises(UserError, match="--engine") as caught:
        engines.find(name)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "name, package", [("dask://h:1", "distributed"), ("slurm", "dask-jobqueue"), ("ssh://h", "asyncssh")]
)
def test_an_absent_package_is_named(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(UserError, match=f"{package} is not installed; pip install"):
        engines.find(name)


def test_slurm_needs_its_own_command(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="slurm: there is no sbatch here"), engines.slurm("", 1, 60):
        pass


@pytest.mark.slow
def test_a_sweep_over_ssh(toy_project, tmp_path):
    """On a host that a real OpenSSH server lets us in; whom it does not know, and who names no host, gets one line."""
    home, stranger = tmp_path / "home", tmp_path / "stranger"
    home.mkdir()
    host = ssh_hosts.Host(tmp_path / "host", home, 97)
    try:
        host.trust()
        (home / ".ssh/config").write_text(f"Host *\n    Port {host.port}\n    User {getpass.getuser()}\n")
        (stranger / ".ssh").mkdir(parents=True)
        for name in ("config", "known_hosts"):
            shutil.copy(home / ".ssh" / name, stranger / ".ssh")
        arguments = [
            "student.width=0.25,0.5",
            "--engine",
            f"ssh://{host.address}",
            "--remote",
            str(tmp_path / "remote"),
        ]
        refused = sweep_project.command(toy_project, *arguments, HOME=str(stranger), SSH_AUTH_SOCK="")
        assert refused.returncode == 1 and "Permission denied" in refused.stderr, refused.stderr
        assert f"error: sweep: ssh://{host.address}: " in refused.stderr and "Traceback" not in refused.stderr
        done = sweep_project.command(toy_project, *arguments, HOME=str(home), SSH_AUTH_SOCK="")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("stages ran") == 2 and "| student.width = 0.5 | 1 |" in done.stdout
        assert "distributed" not in done.stderr
    finally:
        host.close()


SBATCH = """#!/bin/sh
for script; do :; done
echo "$script" >> "$(dirname "$0")/submitted"
cp "$script" "$(dirname "$0")/script"
setsid sh "$(dirname "$0")/script" > "$(dirname "$0")/job.log" 2>&1 &
echo "Submitted batch job $!"
"""


def with_slurm(tools: Path, sbatch: str) -> dict[str, str]:
    """The environment of a machine on which that is `sbatch`."""
    tools.mkdir()
    for name, text in (("sbatch", sbatch), ("scancel", "#!/bin/sh\nkill -- -$1\n")):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    settings = {"CORES": "1", "MEMORY": "1GB", "WALLTIME": "00:10:00", "INTERFACE": "lo"}
    environment = {f"DASK_JOBQUEUE__SLURM__{key}": value for key, value in settings.items()}
    return environment | {"PATH": os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])}


REFUSED = "echo 'sbatch: error: invalid partition specified: nope' >&2; exit 1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sbatch", "told"),
    [
        (REFUSED, "slurm: no job was taken: sbatch: error: invalid partition specified: nope; name another partition"),
        ("echo 'Submitted batch job 4711'", "slurm: no worker for 3 s; squeue --me says what its jobs wait for"),
        ("echo 'Welcome'", "slurm: no job was taken: Could not parse job id from submission command output."),
    ],
    ids=["refused", "never started", "no number"],
)
def test_slurm_that_gives_no_worker_ends_the_sweep(toy_project, tmp_path, sbatch, told):
    environment = with_slurm(tmp_path / "tools", f"#!/bin/sh\n{sbatch}\n")
    arguments = ["student.width=0.25,0.5", "--engine", "slurm://nope", "--remote", str(tmp_path / "remote")]
    wait = "3" if "for 3 s" in told else "120"  # jobs that were refused end it at once
    done = sweep_project.command(toy_project, *arguments, "--wait", wait, **environment)
    assert done.returncode == 1 and f"error: sweep: {told}" in done.stderr
    assert "Traceback" not in done.stderr and not list(toy_project.glob("reports/sweeps/*/*seed*.json"))


def test_a_sweep_waits_for_workers_as_long_as_it_is_told(monkeypatch):
    """From the last one that was there; a scheduler that does not answer has none."""
    now = [0.0]
    monkeypatch.setattr(engines.time, "monotonic", lambda: now[0])
    counts = iter([{}, {"a": 1, "b": 1}, OSError("gone"), {}])

    class Client:
        def get_executor(self, pure):
            return None

        def nthreads(self):
            found = next(counts)
            if isinstance(found, OSError):
                raise found
            return found

    workers = engines.Workers(Client(), engines.Absence("dask://h:1", 10, "start one"))
    for at, room in ((9, 0), (15, 2), (24, 0)):
        now[0] = at
        assert workers.room() == room
    now[0] = 26
    with pytest.raises(UserError, match="dask://h:1: no worker for 10 s; start one; wait longer with --wait"):
        workers.room()


@pytest.mark.slow
def test_a_sweep_by_slurm(toy_project, tmp_path):
    """A stand-in for sbatch runs the job script here; the script itself asks for what Slurm is to give."""
    tools = tmp_path / "tools"
    environment = with_slurm(tools, SBATCH)
    arguments = ["student.width=0.25,0.5", "--engine", "slurm://short", "--workers", "1"]
    refused = sweep_project.command(toy_project, *arguments, **environment)
    assert refused.returncode == 1 and "give --remote" in refused.stderr and not (tools / "submitted").exists()
    done = sweep_project.command(toy_project, *arguments, "--remote", str(tmp_path / "remote"), **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("stages ran") == 2 and "| student.width = 0.5 | 1 |" in done.stdout
    script = (tools / "script").read_text()
    assert "#SBATCH -p short" in script and "--nthreads 1" in script and "#SBATCH -t 00:10:00" in script
