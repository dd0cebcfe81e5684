"""Runs DVC against the shared remote, and says in one line what stands between this clone and its results."""

import re
import subprocess
import sys

from edge.errors import UserError

PAGE = "see docs/shared-cache.md"
FAILURES = (  # what DVC says: what it means
    (
        r"credentials|permission denied|access ?denied|forbidden|invalidaccesskeyid|signaturedoesnotmatch|"
        r"host key|authentication",
        f"no access to the remote: credentials are missing or wrong; {PAGE}",
    ),
    (r"is supported, but requires", f"the remote's kind needs a package more: pip install dvc-ssh or dvc-s3; {PAGE}"),
    (r"failed to connect|connection refused|timed out|name or service", f"the remote can't be reached; {PAGE}"),
    (
        r"missing data 'source'|checkout failed|failed to pull|missing cache|is your cache up to date",
        "the remote doesn't hold what dvc.lock names; whoever ran it pushes it: dvc push",
    ),
)
STAGE = r"Stage '([^']+)' "


def check() -> None:
    """UserError where no default remote is configured."""
    listed = _run("config", "--list").stdout.splitlines()  # DVC gives 0 for an option that is not set
    if not any(line.startswith("core.remote=") for line in listed):
        raise UserError(f"no remote is configured: dvc remote add --default NAME URL; {PAGE}")


def reproduce(*arguments: str) -> dict[str, list[str]]:
    """Brings the graph up to date, pulling only what the stages that run read; {ran, restored, unchanged}: the stages.

    `restored` is what the run cache of the remote had: nothing ran for it here.
    """
    done = _run("repro", "--pull", "--allow-missing", *arguments, show=True)
    _succeed(done, "dvc repro")
    said = done.stdout
    return {
        "ran": re.findall("^Running stage '([^']+)'", said, re.M),
        "restored": re.findall(f"^{STAGE}is cached", said, re.M),
        "unchanged": re.findall(f"^{STAGE}didn't change", said, re.M),
    }


def pull(*targets: str) -> None:
    """What the targets hold, from the remote where it isn't here."""
    _succeed(_run("pull", *targets), "dvc pull")


def _succeed(done: subprocess.CompletedProcess, what: str) -> None:
    if not done.returncode:
        return
    said = done.stdout
    own = re.findall(r"^error: .*", said, re.M)  # of a stage, which knows best
    errors = re.findall(r"^ERROR: (.*)", said, re.M)
    if own:
        raise UserError(f"{what} failed: {own[-1].removeprefix('error: ')}")
    if not any("failed to run" in error for error in errors):
        for pattern, meaning in FAILURES:
            if re.search(pattern, said, re.I):
                raise UserError(f"{what} failed: {meaning}")
    raise UserError(f"{what} failed: {' '.join((errors or said.split()[-30:] or ['no reason given'])[-1:])}")


def _run(*arguments: str, show: bool = False) -> subprocess.CompletedProcess:
    """Runs dvc; its output and errors together, shown as they come where `show`."""
    command = [sys.executable, "-m", "dvc", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if show:
                print(line, end="", flush=True)
    return subprocess.CompletedProcess(command, process.returncode, "".join(lines))
