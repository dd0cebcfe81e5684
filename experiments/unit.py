"""One unit of a sweep: a clean clone of a commit, its experiment with DVC, what came out pushed, the record of it.

This module imports the standard library alone and goes to other machines by value, so that these need Python with
requirements.txt, git and what they can reach: the repository and the DVC remote. No checkout of theirs is used.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECORD = "reports/ablation.json"
RAN = re.compile(r"Running stage '([^']+)'")
LAST = 300  # characters of a message
# dvc ends with the process that started it, as the stages end with dvc: a killed worker leaves nothing behind. Its
# commands share a process, since it takes longer to import than most of them do.
DVC = """import ctypes, json, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]): os._exit(1)
from dvc.cli import main
for command in json.loads(sys.argv[2]):
    if code := main(command): sys.exit(code)"""


class UnitError(Exception):
    """The unit can't be done: another attempt would fail too."""


class LostError(Exception):
    """The process of the unit was killed: another attempt may do it."""


def do(job: dict[str, Any]) -> dict[str, Any]:
    """Does a unit: {record, ran, seconds, host}; UnitError says in one line why it can't be done.

    job: repository, folder (of the project in it), commit, overrides (of `dvc exp run -S`), remote ([name, url] or
    None), scratch and cache (folders or None).
    """
    start = time.monotonic()
    scratch = _scratch(job["scratch"])
    _remove_leftovers(scratch)
    clone = Path(tempfile.mkdtemp(prefix=_prefix(os.getpid()), dir=scratch))
    try:
        _clone(job, clone, scratch)
        project = clone / job["folder"]
        commands = [["exp", "run", *(part for override in job["overrides"] for part in ("-S", override))]]
        if job["remote"]:
            commands[0] += ["--pull", "--allow-missing"]
            commands.append(["push", "--run-cache"])
        said = _dvc(project, commands)
        record = project / RECORD
        if not record.is_file():
            raise UnitError(f"the pipeline wrote no {RECORD}; its stage report must")
        return {
            "record": record.read_text(),
            "ran": RAN.findall(said),
            "seconds": time.monotonic() - start,
            "host": socket.gethostname(),
        }
    finally:
        shutil.rmtree(clone, ignore_errors=True)


def _scratch(folder: str | None) -> Path:
    """The folder for clones and the cache of this machine, which belongs to us alone."""
    path = Path(folder or Path(tempfile.gettempdir()) / f"edge-vision-sweep-{os.getuid()}")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.stat().st_uid
    except OSError as error:
        raise UnitError(f"{path}: {error.strerror}; give --scratch a folder that the workers can write") from None
    if owner != os.getuid():
        raise UnitError(f"{path}: belongs to another user; give --scratch another folder")
    return path


def _prefix(pid: int | str) -> str:
    return f"unit-{socket.gethostname()}-{pid}-"


def _remove_leftovers(scratch: Path) -> None:
    """Removes the clones of workers of this machine that were killed."""
    for path in scratch.glob(f"{_prefix('*')}*"):
        pid = path.name.removeprefix(f"unit-{socket.gethostname()}-").partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)


def _clone(job: dict[str, Any], clone: Path, scratch: Path) -> None:
    """The commit as a clean checkout that uses the cache of this machine and the remote of the sweep."""
    repository, commit = job["repository"], job["commit"]
    said = _run(["git", "clone", "--quiet", "--no-checkout", repository, str(clone)])
    if said.returncode:
        raise UnitError(f"{repository}: {_last(said)}; give --repository an address that the workers reach")
    if _run(["git", "-C", str(clone), "checkout", "--quiet", "--detach", commit]).returncode:
        raise UnitError(f"{repository}: has no commit {commit[:12]}; push it first")
    config = f"[cache]\n    dir = {job['cache'] or scratch / 'cache'}\n"
    if job["remote"]:
        name, url = job["remote"]
        config += f"[core]\n    remote = {name}\n['remote \"{name}\"']\n    url = {url}\n"
    (clone / job["folder"] / ".dvc/config.local").write_text(config)


def _dvc(project: Path, commands: list[list[str]]) -> str:
    """What the commands of dvc say; UnitError with the last words of one that fails, LostError when it was killed."""
    done = _run([sys.executable, "-c", DVC, str(os.getpid()), json.dumps(commands)], cwd=project)
    if done.returncode in (-signal.SIGKILL, -signal.SIGTERM):
        raise LostError(f"dvc was ended by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        raise UnitError(_last(done))
    return done.stdout + done.stderr


def _run(command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command in the environment of this Python, without what would tie it to another repository."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("GIT_")}
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    for role in ("AUTHOR", "COMMITTER"):  # of the commits that dvc makes in the clone
        kept |= {f"GIT_{role}_NAME": "sweep", f"GIT_{role}_EMAIL": "sweep@localhost"}
    kept["GIT_TERMINAL_PROMPT"] = "0"
    return subprocess.run(
        command, cwd=cwd, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """The line that says why a command failed: that of the stage where there is one, else the first error."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"(error|fatal|ERROR):", line)]
    return (told or lines or [f"exit code {done.returncode}"])[0].removeprefix("error: ")[:LAST]
