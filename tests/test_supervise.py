"""The supervisor on the device, without a network: one job at a time, and nothing outlives whoever asked for it."""

import contextlib
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
from hardware_runners.runner.transports import replies

pytestmark = pytest.mark.slow

PROGRAM = ROOT / "hardware_runners/runner/remote/supervise.py"
NAP = "import time; time.sleep(60)"


def start(state: Path, *commands: list[str], **job) -> subprocess.Popen:
    """A supervisor that has its job; the test is the far end."""
    defaults = {"lock_wait_s": 0.0, "limit_s": 30.0, "heartbeat_s": 20.0, "holder": "me@here"}
    process = subprocess.Popen(
        [sys.executable, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    job = {**defaults, "lock": lock_name(state), "state": str(state), "commands": list(commands), **job}
    process.stdin.write(json.dumps(job).encode() + b"\n")
    process.stdin.flush()
    return process


def lock_name(state: Path) -> str:
    """One of this test alone: the lock is the machine's."""
    return f"{os.getpid()}-{state.parent.name}"


def finish(process: subprocess.Popen) -> tuple[bytes, bytes]:
    """Its output, without the mark of an answer, and errors; its input left open."""
    out, err = process.stdout.read().removeprefix(replies.MARK), process.stderr.read()
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
    for _ in range(2):
        process = start(tmp_path / "state", python("print([1, 2])"), python("print({})"))
        out, err = finish(process)
        assert (process.returncode, json.loads(out), err) == (0, [[1, 2], {}], b"")
    assert not list(tmp_path.iterdir()), "nothing is left"


def test_a_failing_command_is_one_line(tmp_path):
    process = start(tmp_path / "state", python("import sys; print('x'); sys.exit('error: no such model')"))
    out, err = finish(process)
    assert (process.returncode, out, err) == (1, b"", b"error: no such model\n")


def test_busy_names_the_holder_and_a_short_wait_is_waited(tmp_path):
    state, go = tmp_path / "state", tmp_path / "go"
    code = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nprint(1)"
    first = start(state, python(code))
    assert wait_for(lambda: f"edge-vision/{lock_name(state)}" in Path("/proc/net/unix").read_text())
    second = start(state, python("print(2)"))
    third = start(state, python("print(3)"), lock_wait_s=20.0)
    _, err = finish(second)
    assert second.returncode == 75 and err.decode() == f"busy: held by me@here, process {first.pid}\n"
    time.sleep(1)
    assert third.poll() is None
    go.touch()
    assert finish(third)[0] == b"[3]\n" and finish(first)[0] == b"[1]\n"


@pytest.mark.parametrize("wrong", ["foreign file", "link", "folder", "FIFO", "leftover"])
def test_no_file_of_anybody_is_in_the_way_of_the_lock(tmp_path, wrong):
    """Of the names of locks in a shared folder, as earlier versions took them."""
    state, victim = tmp_path / "state", tmp_path / "victim"
    path = Path(f"/tmp/edge-vision-{lock_name(state)}.lock")
    victim.write_text("mine")
    try:
        if wrong == "folder":
            path.mkdir()
        elif wrong == "FIFO":
            os.mkfifo(path)
        elif wrong == "link":
            path.symlink_to(victim)
        else:
            path.write_text("somebody-else, process 1\n")
            path.chmod(0o600 if wrong == "foreign file" else 0o400)
        out, err = finish(process := start(state, python("print(1)")))
        assert (process.returncode, out, err) == (0, b"[1]\n", b"")
        assert victim.read_text() == "mine"
    finally:
        path.rmdir() if wrong == "folder" else path.unlink(missing_ok=True)


def test_a_killed_holder_leaves_no_lock_and_a_stopped_one_holds_it(tmp_path):
    state = tmp_path / "state"
    first = start(state, python(NAP))
    assert wait_for(lambda: f"edge-vision/{lock_name(state)}" in Path("/proc/net/unix").read_text())
    os.kill(first.pid, signal.SIGSTOP)
    _, err = finish(second := start(state, python("print(2)")))
    assert second.returncode == supervise.BUSY and err == b"busy: held by another run\n"
    os.kill(first.pid, signal.SIGKILL)
    first.wait(5)
    assert finish(start(state, python("print(3)")))[0] == b"[3]\n"


def test_what_a_foreign_holder_says_is_one_short_line(tmp_path):
    name = f"{os.getpid()}-foreign"
    lock = supervise.Lock(name, "x\n\x1b[31m" + "y" * 5000)
    assert lock.take() and not supervise.Lock(name, "me").take()
    said = supervise.Lock(name, "me").other()
    assert said.startswith("x[31my") and said.isprintable() and len(said) <= 200


def beat(process) -> None:
    """Signs of life until it ends."""
    while process.poll() is None:
        with contextlib.suppress(BrokenPipeError):  # it may end just now
            process.stdin.write(b".")
            process.stdin.flush()
        time.sleep(0.2)


@pytest.mark.parametrize("ending", ["end of input", "silence", "SIGTERM", "SIGHUP", "SIGKILL", "limit"])
def test_nothing_outlives_the_supervisor(tmp_path, ending, family, mark):
    limits = {"limit": {"limit_s": 6.0}, "silence": {"heartbeat_s": 6.0}}.get(ending, {"heartbeat_s": 60.0})
    process = start(tmp_path / "state", family, **limits)
    try:
        assert wait_for(lambda: len(alive(mark)) == 2 or (ending == "SIGKILL" and alive(mark)))
        if ending == "end of input":
            process.stdin.close()
        elif ending.startswith("SIG"):
            os.kill(process.pid, getattr(signal, ending))
        elif ending == "limit":
            beat(process)
        process.wait(20)
        expected = {"limit": supervise.TIMED_OUT, "SIGKILL": -9}.get(ending, supervise.LOST)
        assert process.returncode == expected
        if ending == "SIGKILL":  # the kernel ends the command; what that started itself is its own business
            assert wait_for(lambda: len(alive(mark)) <= 1, 20)
        else:
            assert wait_for(lambda: not alive(mark), 20)
    finally:
        for pid in alive(mark):
            os.kill(pid, signal.SIGKILL)


def test_signs_of_life_keep_it_going(tmp_path):
    process = start(tmp_path / "state", python("import time; time.sleep(8); print(1)"), heartbeat_s=6.0)
    beat(process)
    assert process.stdout.read() == replies.MARK + b"[1]\n" and process.returncode == 0


def test_a_broken_link_while_the_result_is_written(tmp_path):
    """Nobody reads: the write blocks, and the silence still ends it."""
    process = start(tmp_path / "state", python("import json; print(json.dumps('x' * 5_000_000))"), heartbeat_s=1.0)
    assert process.wait(20) == supervise.LOST


def test_the_governor_is_put_back_also_after_kill_9(tmp_path):
    cpus = tmp_path / "cpu"
    for name in ("cpu0", "cpu1"):
        (cpus / name / "cpufreq").mkdir(parents=True)
        (cpus / name / "cpufreq/scaling_governor").write_text("ondemand\n")
    (cpus / "cpuidle").mkdir()

    def governors():
        return {(cpus / name / "cpufreq/scaling_governor").read_text().strip() for name in ("cpu0", "cpu1")}

    state = tmp_path / "state"
    killed = supervise.Governor(str(state), "governor.json", str(cpus))
    killed.set()
    assert governors() == {"performance"}
    assert (state.stat().st_mode & 0o777, (state / "governor.json").stat().st_mode & 0o777) == (0o700, 0o600)
    supervise.Governor(str(state), "governor.json", str(cpus)).restore()  # what the next job does first
    assert governors() == {"ondemand"} and not list(state.iterdir())
    supervise.Governor(str(state), "governor.json", str(cpus)).restore()
    assert governors() == {"ondemand"}


def test_a_governor_that_cannot_be_set_is_one_line_and_stops_no_later_job(tmp_path):
    state = tmp_path / "state"
    state.mkdir(0o700)
    (state / f"governor-{lock_name(state)}.json").mkdir()  # so that it can't be written down
    _, err = finish(process := start(state, python("print(1)"), governor=True))
    assert process.returncode == 1 and err.startswith(b"can't do what was asked: ") and err.count(b"\n") == 1
    out, _ = finish(start(state, python("print(1)")))
    assert out == b"[1]\n"


# what others on the device may have put there


@pytest.fixture
def cpus(tmp_path) -> Path:
    (tmp_path / "cpu/cpu0/cpufreq").mkdir(parents=True)
    (tmp_path / "cpu/cpu0/cpufreq/scaling_governor").write_text("schedutil\n")
    return tmp_path / "cpu"


@pytest.mark.parametrize(
    "content",
    [
        '{"VICTIM": "x"}',
        '{"../../victim": "powersave"}',
        '{"cpu0/../../../victim": "powersave"}',
        '{"cpu0": "x; reboot"}',
        '{"cpu0": {"a": 1}, "cpu7": "powersave"}',
        '["cpu0"]',
        "null",
        '{"cpu0": "pow',
    ],
)
def test_restore_writes_nothing_but_known_governors_of_cpus(tmp_path, cpus, content):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    state = tmp_path / "state"
    state.mkdir(0o700)
    (state / "g.json").write_text(content.replace("VICTIM", str(victim)))
    (state / "g.json").chmod(0o600)
    supervise.Governor(str(state), "g.json", str(cpus)).restore()
    assert victim.read_text() == "mine" and not (cpus / "cpu7").exists()
    assert (cpus / "cpu0/cpufreq/scaling_governor").read_text() == "schedutil\n"
    assert not list(state.iterdir()), "it is no use any more"


@pytest.mark.parametrize("wrong", ["folder of others", "folder is a link", "file of others", "file is a link", "FIFO"])
def test_state_that_others_may_have_written_is_not_used(tmp_path, cpus, wrong):
    state, other = tmp_path / "state", tmp_path / "other"
    other.mkdir(0o700)
    (other / "g.json").write_text('{"cpu0": "powersave"}')
    (other / "g.json").chmod(0o666 if wrong == "file of others" else 0o600)
    if wrong == "folder is a link":
        state.symlink_to(other)
    elif wrong in ("file is a link", "FIFO"):
        state.mkdir(0o700)
        (state / "g.json").symlink_to(other / "g.json") if wrong != "FIFO" else os.mkfifo(state / "g.json", 0o600)
    else:
        other.rename(state)
        state.chmod(0o777 if wrong == "folder of others" else 0o700)
    governor = supervise.Governor(str(state), "g.json", str(cpus))
    governor.restore()
    assert (cpus / "cpu0/cpufreq/scaling_governor").read_text() == "schedutil\n"
    with pytest.raises(OSError):
        governor.set()
    assert (cpus / "cpu0/cpufreq/scaling_governor").read_text() == "schedutil\n"
