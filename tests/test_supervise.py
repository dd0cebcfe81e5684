"""The supervisor on the device, without a network: one job at a time, and nothing outlives whoever asked for it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from hardware_runners.runner.remote import supervise

pytestmark = pytest.mark.slow

PROGRAM = ROOT / "hardware_runners/runner/remote/supervise.py"
NAP = "import time; time.sleep(60)"


def start(lock: Path, *commands: list[str], **job) -> subprocess.Popen:
    """A supervisor that has its job; the test is the far end."""
    defaults = {"lock_wait_s": 0.0, "limit_s": 30.0, "heartbeat_s": 1.0, "holder": "me@here"}
    process = subprocess.Popen(
        [sys.executable, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    job = {**defaults, "lock": str(lock), "commands": list(commands), **job}
    process.stdin.write(json.dumps(job).encode() + b"\n")
    process.stdin.flush()
    return process


def finish(process: subprocess.Popen) -> tuple[bytes, bytes]:
    """Its output and errors, its input left open."""
    out, err = process.stdout.read(), process.stderr.read()
    process.wait(20)
    return out, err


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def alive(mark: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "cmdline").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_for(condition, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


@pytest.fixture
def mark(tmp_path) -> str:
    """Stands in the command line of what a test starts."""
    return f"mark-{tmp_path.name}-{os.getpid()}"


@pytest.fixture
def family(mark) -> list[str]:
    """A command that starts a second process and sleeps like it."""
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {NAP!r}, {mark!r}]); time.sleep(60)"
    return python(code, mark)


def test_prints_what_the_commands_printed_and_frees_the_machine(tmp_path):
    lock = tmp_path / "lock"
    for _ in range(2):
        process = start(lock, python("print([1, 2])"), python("print({})"))
        out, err = finish(process)
        assert (process.returncode, json.loads(out), err) == (0, [[1, 2], {}], b"")
    assert lock.read_text() == "" and lock.stat().st_mode & 0o777 == 0o666


def test_a_failing_command_is_one_line(tmp_path):
    process = start(tmp_path / "lock", python("import sys; print('x'); sys.exit('error: no such model')"))
    out, err = finish(process)
    assert (process.returncode, out, err) == (1, b"", b"error: no such model\n")


def test_busy_names_the_holder_and_a_short_wait_is_waited(tmp_path):
    lock = tmp_path / "lock"
    first = start(lock, python("import time; time.sleep(1.2); print(1)"), heartbeat_s=9.0)
    assert wait_for(lambda: lock.exists() and lock.read_text())
    second = start(lock, python("print(2)"))
    third = start(lock, python("print(3)"), lock_wait_s=9.0, heartbeat_s=9.0)
    _, err = finish(second)
    assert second.returncode == 75 and err.decode() == f"busy: held by me@here, process {first.pid}\n"
    assert finish(third)[0] == b"[3]\n" and finish(first)[0] == b"[1]\n"


@pytest.mark.parametrize("ending", ["end of input", "silence", "SIGTERM", "SIGHUP", "SIGKILL", "limit"])
def test_nothing_outlives_the_supervisor(tmp_path, ending, family, mark):
    process = start(tmp_path / "lock", family, limit_s=1.5 if ending == "limit" else 30.0)
    try:
        assert wait_for(lambda: len(alive(mark)) == 2 or (ending == "SIGKILL" and alive(mark)))
        begun = time.monotonic()
        if ending == "end of input":
            process.stdin.close()
        elif ending.startswith("SIG"):
            os.kill(process.pid, getattr(signal, ending))
        elif ending == "limit":
            while process.poll() is None:
                process.stdin.write(b".")
                process.stdin.flush()
                time.sleep(0.2)
        process.wait(10)
        assert time.monotonic() - begun < 3
        expected = {"limit": supervise.TIMED_OUT, "SIGKILL": -9}.get(ending, supervise.LOST)
        assert process.returncode == expected
        if ending == "SIGKILL":  # the kernel ends the command; what that started itself is its own business
            assert wait_for(lambda: len(alive(mark)) <= 1, 3)
        else:
            assert wait_for(lambda: not alive(mark), 3)
    finally:
        for pid in alive(mark):
            os.kill(pid, signal.SIGKILL)


def test_signs_of_life_keep_it_going(tmp_path):
    process = start(tmp_path / "lock", python("import time; time.sleep(2.5); print(1)"))
    while process.poll() is None:
        process.stdin.write(b".")
        process.stdin.flush()
        time.sleep(0.2)
    assert process.stdout.read() == b"[1]\n" and process.returncode == 0


def test_a_broken_link_while_the_result_is_written(tmp_path):
    """Nobody reads: the write blocks, and the silence still ends it."""
    process = start(tmp_path / "lock", python("import json; print(json.dumps('x' * 5_000_000))"))
    assert process.wait(20) == supervise.LOST


def test_the_governor_is_put_back_also_after_kill_9(tmp_path):
    cpus = tmp_path / "cpu"
    for name in ("cpu0", "cpu1"):
        (cpus / name / "cpufreq").mkdir(parents=True)
        (cpus / name / "cpufreq/scaling_governor").write_text("ondemand\n")
    (cpus / "cpuidle").mkdir()

    def governors():
        return {(cpus / name / "cpufreq/scaling_governor").read_text().strip() for name in ("cpu0", "cpu1")}

    killed = supervise.Governor(str(tmp_path / "lock.governor"), str(cpus))
    killed.set()
    assert governors() == {"performance"}
    supervise.Governor(str(tmp_path / "lock.governor"), str(cpus)).restore()  # what the next job does first
    assert governors() == {"ondemand"} and not (tmp_path / "lock.governor").exists()
    supervise.Governor(str(tmp_path / "lock.governor"), str(cpus)).restore()
    assert governors() == {"ondemand"}


def test_a_governor_that_cannot_be_set_is_one_line_and_stops_no_later_job(tmp_path):
    lock = tmp_path / "lock"
    (tmp_path / "lock.governor").mkdir()  # so that it can't be written down
    _, err = finish(process := start(lock, python("print(1)"), governor=True))
    assert process.returncode == 1 and err.startswith(b"can't do what was asked: ") and err.count(b"\n") == 1
    out, _ = finish(start(lock, python("print(1)")))
    assert out == b"[1]\n"
