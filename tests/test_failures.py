"""What a device does to a run when it fails, with real SSH servers: exit code, row, leftover processes, next repro."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import runner_project
import toy
import yaml
from conftest import ROOT

pytestmark = pytest.mark.slow

ITEM = f"benchmark@pia-{runner_project.VARIANT}"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    with runner_project.project(tmp_path_factory.mktemp("failures"), ["pia", "pib"], runs=1000) as made:
        done = made.dvc("repro", "benchmark")
        assert done.returncode == 0, done.stdout + done.stderr
        yield made


def running(host, what: str, seconds: float = 60) -> int:
    """Waits for a process of ours on a device; its id."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for line in host.leftovers():
            if what in line:
                return int(line.split(":")[0])
        time.sleep(0.02)
    raise AssertionError(f"{what} never ran")


def gone(host, seconds: float = 30) -> list[str]:
    """What is left on a device after this long at most."""
    end = time.monotonic() + seconds
    while host.leftovers() and time.monotonic() < end:
        time.sleep(0.05)
    return host.leftovers()


def measuring(host) -> None:
    process = running(host, "remote.measure")
    time.sleep(0.3)
    os.kill(process, signal.SIGSTOP)  # it doesn't come to its end before something ends it


# Each case breaks something (before the run, or in its middle) and returns what mends it.


def unreachable(project, host):
    host.cut()
    return host.restore


def cable(project, host):
    measuring(host)
    host.cut()
    return host.restore


def loose_cable(project, host):
    """Out for longer than the device waits for a sign of life, not as long as the connection lasts."""
    project.change("pia", limits={"heartbeat_s": 0.6})  # long before the stage has read it
    running(host, "remote.measure")
    host.cut()
    time.sleep(2)
    host.restore()
    return lambda: project.change("pia", limits=host.device("pia")["limits"])


def shut_down(project, host):
    """A device that shuts down asks its processes to end."""
    measuring(host)
    os.kill(running(host, "supervise.py"), signal.SIGTERM)
    return lambda: None


def switched_off(project, host):
    measuring(host)
    host.stop()
    return host.start


def busy(project, host):
    """Somebody on the device holds its lock."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from hardware_runners.runner.remote.supervise import Lock\n"
    code += "assert Lock(sys.argv[2], 'somebody-else').take(); print('held', flush=True); sys.stdin.read()"
    inside = ["ip", "netns", "exec", host.netns] if host.netns else []
    command = [*inside, sys.executable, "-c", code, str(ROOT), host.device("pia")["lock"]]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"

    def mend():
        holder.communicate()

    return mend


def wrong_key(project, host):
    host.stop()
    host.new_host_key()
    host.start()
    return host.trust


def refused(project, host):
    keys = host.folder / "authorized_keys"
    kept = keys.read_text()
    keys.write_text("")
    return lambda: keys.write_text(kept)


def changed_fingerprint(project, host):
    path = project.folder / "hardware_runners/inventory/pia.yaml"
    kept = path.read_text()
    path.write_text(re.sub("kernel: .*", "kernel: 0.0.1", kept))
    return lambda: path.write_text(kept)


def full_disk(project, host):
    small = host.folder / "small"
    small.mkdir(exist_ok=True)
    inside = ["nsenter", "--mount", "--target", str(host.process.pid)]  # what `ip netns exec` gave the server
    mount = [*inside, "mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    project.change("pia", folder=str(small / "device"))

    def mend():
        subprocess.run([*inside, "umount", str(small)], check=True)
        project.change("pia", folder=str(host.folder / "device"))

    return mend


def slow(project, host):
    project.change("pia", limits={"run_s": 0.3})
    return lambda: project.change("pia", limits=host.device("pia")["limits"])


def killed_runner(project, host):
    os.kill(running(host, "remote.measure"), signal.SIGKILL)
    return lambda: None


def killed_supervisor(project, host):
    measuring(host)
    os.kill(running(host, "supervise.py"), signal.SIGKILL)
    return lambda: None


def killed_stage(project, host):
    measuring(host)
    os.kill(project.stage.pid, signal.SIGKILL)
    return lambda: None


CASES = [  # what, whether in the middle of the run, exit code of the stage, row, words of the one line that tells
    (unreachable, False, 75, "unavailable", "unreachable|connection lost|no answer"),
    (cable, True, 75, "unavailable", "connection lost"),
    (loose_cable, True, 75, "unavailable", "connection lost"),
    (shut_down, True, 75, "unavailable", "connection lost or device shut down during the measurement"),
    (switched_off, True, 75, "unavailable", "connection lost"),
    (busy, False, 75, "unavailable", "busy: held by somebody-else, process \\d+"),
    (wrong_key, False, 1, None, "host key not verified"),
    (refused, False, 1, None, "login refused"),
    (changed_fingerprint, False, 1, None, "changed since it was enrolled: kernel was '0.0.1'"),
    (full_disk, False, 1, None, "No space left on device; make room"),
    (slow, False, 1, None, "took longer than 0.3 s"),
    (killed_runner, True, 1, None, "killed by signal 9"),
    (killed_supervisor, True, 1, None, "killed there by signal KILL"),
    (killed_stage, True, -9, None, ""),
]


@pytest.mark.parametrize(("case", "midway", "code", "status", "words"), CASES, ids=[c[0].__name__ for c in CASES])
def test_failure(project, case, midway, code, status, words):
    host = project.hosts["pia"]
    project.change("pia", notes=f"before {case.__name__}")  # a changed inventory file: this device has to measure
    (project.folder / f"artifacts/bench/pia-{runner_project.VARIANT}.json").unlink()  # as DVC does before a stage
    mend = None if midway else case(project, host)
    command = ["python", "-m", "stages.benchmark", f"pia-{runner_project.VARIANT}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    project.stage = subprocess.Popen(command, cwd=project.folder, env=project.environment(), **pipes)
    try:
        mend = mend or case(project, host)
        out, _ = project.stage.communicate(timeout=60)
        left = gone(host)  # while the cable is still out
        row = project.row("pia")
    finally:
        project.stage.kill()
        if mend:
            mend()
    assert project.stage.returncode == code, out
    assert len(out.splitlines()) == (0 if code == -9 else 1) and out.startswith("error: "[: len(out)]), out
    assert re.search(words, out), out
    assert (row and row["status"]) == status
    assert not left
    assert not list((project.folder / "artifacts/bench").glob(".*")), "a half-written row"
    again = project.dvc("repro", "benchmark")
    assert again.returncode == 0, again.stdout + again.stderr
    assert toy.ran(again) == {ITEM}
    assert project.row("pia")["status"] == "ok" and len(project.row("pia")["blocks"][0]["samples_ms"]) == 1000
    assert not gone(host)


def test_bench_goes_on_without_a_device(project):
    """One device away: the other is measured, the report says so, dvc status is dirty, the next repro measures one."""
    for name in ("pia", "pib"):
        project.change(name, notes="before bench")
    project.hosts["pia"].cut()
    try:
        done = project.runners("bench")
    finally:
        project.hosts["pia"].restore()
    assert done.returncode == 75, done.stdout + done.stderr
    assert toy.ran(done) == {ITEM, ITEM.replace("pia", "pib"), "illustrate", "report"}
    rows = {row["device"]: row for row in json.loads((project.folder / "reports/summary.json").read_text())}
    assert rows["pia"]["status"] == "unavailable" and "device pia" in rows["pia"]["reason"]
    assert rows["pib"]["status"] == "ok" and rows["pia"]["latency_ms"] is None
    assert "unavailable: device pia" in (project.folder / "reports/index.html").read_text()
    assert project.dvc("status", "-q").returncode == 1
    again = project.dvc("repro")
    assert again.returncode == 0 and toy.ran(again) == {ITEM, "illustrate", "report"}
    assert project.dvc("status", "-q").returncode == 0
    assert not project.leftovers()


def test_bench_stops_before_the_report_when_something_is_wrong(project):
    mend = changed_fingerprint(project, project.hosts["pia"])
    try:
        done = project.runners("bench")
    finally:
        mend()
    assert done.returncode == 1 and toy.ran(done) == {ITEM}, done.stdout
    assert done.stderr == f"error: no report: {ITEM.partition('@')[2]} failed; see above\n"
    again = project.dvc("repro")
    assert again.returncode == 0 and not toy.ran(again) and "is cached" in again.stdout, (
        "it is as it was measured before"
    )


def test_bench_ends_with_the_lock_of_a_sequential_run(project):
    """Two devices at once; then DVC alone, without its lock file, takes the same measurements from its run cache."""
    for name in ("pia", "pib"):
        project.change(name, notes="both at once")
    done = project.runners("bench")
    assert done.returncode == 0 and toy.ran(done) == {ITEM, ITEM.replace("pia", "pib"), "illustrate", "report"}, (
        done.stdout
    )
    lock = project.folder / "dvc.lock"
    together = yaml.safe_load(lock.read_text())
    lock.unlink()
    alone = project.dvc("repro")
    assert alone.returncode == 0 and not toy.ran(alone), alone.stdout
    assert yaml.safe_load(lock.read_text()) == together


def test_an_interrupt_ends_bench_though_the_supervisor_is_stopped(project):
    """Of bench alone, as by kill -INT: Ctrl-C would reach its children, too."""
    host = project.hosts["pia"]
    project.change("pia", notes="interrupted")
    command = ["python", "-m", "hardware_runners", "bench", "pia"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    bench = subprocess.Popen(command, cwd=project.folder, env=project.environment(), **pipes)
    try:
        measuring(host)
        stopped = running(host, "supervise.py")
        os.kill(stopped, signal.SIGSTOP)
        bench.send_signal(signal.SIGINT)
        _, errors = bench.communicate(timeout=60)
    finally:
        bench.kill()
        os.kill(stopped, signal.SIGCONT)
    assert bench.returncode == 130 and errors == "error: interrupted\n"
    assert not gone(host)
    again = project.dvc("repro", "benchmark")
    assert again.returncode == 0 and toy.ran(again) == {ITEM}, again.stdout + again.stderr
