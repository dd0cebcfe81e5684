"""What the way over SSH costs: the p50 of a model above 1 ms, here and through a server on this machine."""

import pytest
import runner_project
import ssh_hosts

from hardware_runners.runner import transports
from hardware_runners.runner.devices import Device
from hardware_runners.runner.transports import ssh

pytestmark = pytest.mark.slow

PAIRS, RUNS = 3, 400
LOCAL = Device(name="local", transport="local")


def test_overhead_of_the_remote_path(tmp_path, monkeypatch):
    """Measured in turns; the best p50 of each side, since other work on this machine only makes it worse: a machine
    that is busy gets more turns to show one."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    host = ssh_hosts.Host(tmp_path / "device", home, 30)
    try:
        host.trust()
        device = Device.model_validate(host.device("far", limits={"connect_s": 30.0, "heartbeat_s": 20.0}))
        device = device.model_copy(update={"fingerprint": ssh.probe(device)["fingerprint"]})
        excess, tries = 9.0, 0
        found: dict[str, list[float]] = {"local": [], "far": []}
        while tries < 8 and excess > 0.02:
            for _ in range(PAIRS):
                for each in (LOCAL, device):
                    block = transports.measure(each, runner_project.model(), RUNS, 20, [1], "overhead")["blocks"][0]
                    found[each.name].append(block["latency_ms"]["p50"])
            local, far = min(found["local"]), min(found["far"])
            excess, tries = (far - local) / max(local, 1), tries + 1  # a fast machine runs this model in under 1 ms
    finally:
        host.close()
    print(f"p50 local {local:.4f} ms, over SSH {far:.4f} ms", found)
    assert excess <= 0.02
