"""Fifty measurements in a row, each disturbed at a random moment: no lost row, no leftover process, no wrong figure."""

import contextlib
import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import runner_project
import ssh_hosts

from edge.inference.modelfile import open_model
from hardware_runners.runner import result, transports
from hardware_runners.runner.devices import Device, Limits
from hardware_runners.runner.errors import RunnerError, Unavailable
from hardware_runners.runner.transports import ssh
from stages.common import atomic

pytestmark = pytest.mark.slow

DEVICES, ROUNDS, RUNS = 5, 10, 150
SECONDS = 4.0  # the disturbance comes anywhere in this time, sometimes after the end


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    """Servers that trust us, enrolled; HOME is ours for the while, and from then on signs of life come often."""
    folder = tmp_path_factory.mktemp("cuts")
    home = folder / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        hosts = []
        try:
            for number in range(DEVICES):
                hosts.append(ssh_hosts.Host(folder / f"d{number}", home, 10 + number))
                hosts[-1].trust()
            found = [(host, enrolled(host, f"d{number}")) for number, host in enumerate(hosts)]
            patch.setattr(ssh, "KEEPALIVE_S", 0.3)
            yield found
        finally:
            for host in hosts:
                host.close()


def enrolled(host, name: str) -> Device:
    device = Device.model_validate(host.device(name, limits={"connect_s": 30.0}))
    limits = Limits(connect_s=3.0, lock_wait_s=5.0, run_s=30.0, heartbeat_s=1.5)
    return device.model_copy(update={"limits": limits, "fingerprint": ssh.probe(device)["fingerprint"]})


def disturb(host, kind: str, after: float) -> None:
    """Pulls the cable, or kills one process of the device with -9, when there is one."""
    time.sleep(after if kind in ("cable", "session") else after / 4)
    if kind == "cable":
        host.cut()
        return
    if kind == "session":
        victims = [pid for pid in ssh_hosts.children(host.process.pid) if "sshd" in ssh_hosts.cmdline(pid)]
    else:
        victims, end = [], time.monotonic() + SECONDS
        while not victims and time.monotonic() < end:
            victims = [int(line.split(":")[0]) for line in host.leftovers() if kind in line]
            time.sleep(0.02)
    for pid in victims[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def one_run(host, device, info, kind: str, after: float, out: Path) -> str:
    """One disturbed measurement as the stage makes it; what its row says."""
    with ThreadPoolExecutor(1) as pool:
        disturbance = pool.submit(disturb, host, kind, after)
        try:
            found = transports.measure(device, info.folder, RUNS, 2, [1], "cuts")
            atomic.write_json(out, result.row(device, "v", info, found))
        except Unavailable as error:
            atomic.write_json(out, result.unavailable(device.name, "v", error))
        except RunnerError as error:
            assert kind != "cable", f"a pulled cable is no error of the device: {error}"
            return "failed"
        finally:
            disturbance.result()
            end = time.monotonic() + 30  # the cable is still out; a supervisor waits 10 s for its job
            while host.leftovers() and time.monotonic() < end:
                time.sleep(0.05)
            left = host.leftovers()
            host.restore()
    assert not left, left
    return json.loads(out.read_text())["status"]


def check(row: dict, info) -> None:
    """A row that claims to be measured is whole and consistent."""
    (block,) = row["blocks"]
    samples = np.array(block["samples_ms"])
    assert row["sha256"] == info.sha256 and len(samples) == RUNS and (samples > 0.2).all()
    assert row["latency_ms"]["p50"] == pytest.approx(np.percentile(samples, 50))


def test_fifty_disturbed_runs(devices, tmp_path, monkeypatch):
    info = open_model(runner_project.model())
    dice = random.Random(4)
    kinds = ["cable", "cable", "cable", "session", "supervise.py", "remote.measure"]
    plans = [[(dice.choice(kinds), dice.uniform(0, SECONDS)) for _ in range(ROUNDS)] for _ in devices]

    def rounds(number: int) -> list[str]:
        host, device = devices[number]
        statuses = []
        for turn, (kind, after) in enumerate(plans[number]):
            out = tmp_path / f"{number}-{turn}.json"
            status = one_run(host, device, info, kind, after, out)
            assert (status == "failed") != out.exists()
            if status == "ok":
                check(json.loads(out.read_text()), info)
            statuses.append(f"{kind}: {status}")
        return statuses

    with ThreadPoolExecutor(DEVICES) as pool:
        found = sorted(status for statuses in pool.map(rounds, range(DEVICES)) for status in statuses)
    monkeypatch.setattr(ssh, "KEEPALIVE_S", 10)
    for _, device in devices:
        patient = device.model_copy(update={"limits": Limits(connect_s=30.0, heartbeat_s=20.0)})
        final = transports.measure(patient, info.folder, RUNS, 2, [1], "after the cuts")
        check(result.row(device, "v", info, final), info)
    counts = {status: found.count(status) for status in dict.fromkeys(found)}
    print(counts)
    assert len(found) == 50 and not list(tmp_path.glob(".*")), "no row is lost, none is half written"
    assert sum(n for status, n in counts.items() if "unavailable" in status) >= 10, counts
    assert not [line for host, _ in devices for line in host.leftovers()]
