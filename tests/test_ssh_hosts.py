"""The servers of the tests clean up after a run that was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ssh_hosts

pytestmark = pytest.mark.slow


def listed() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not ssh_hosts.namespaces(), reason="no right to make network namespaces")
def test_what_a_killed_run_left_is_removed(tmp_path):
    code = "import sys, pathlib, ssh_hosts; f = pathlib.Path(sys.argv[1]); (f / 'home').mkdir()\n"
    code += (
        "host = ssh_hosts.Host(f / 'host', f / 'home', 7); print(host.netns, host.link, host.process.pid, flush=True)\n"
    )
    code += "sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    killed = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    )
    name, link, server = killed.stdout.readline().split()
    ssh_hosts.clean()
    assert name in listed(), "it runs"
    locks = [Path(f"/tmp/edge-vision-pia-{pid}.lock") for pid in (killed.pid, os.getpid())]
    for lock in locks:
        lock.touch()
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert name in listed() and Path(f"/proc/{server}").exists()
    try:
        ssh_hosts.clean()
        assert name not in listed() and [lock.exists() for lock in locks] == [False, True]
        assert subprocess.run(["ip", "link", "show", link], capture_output=True).returncode
        end = time.monotonic() + 20
        while Path(f"/proc/{server}/exe").exists() and time.monotonic() < end:
            time.sleep(0.02)
        assert not Path(f"/proc/{server}/exe").exists()
    finally:
        locks[1].unlink()


@pytest.mark.parametrize(
    ("name", "mine"),
    [
        ("edge4194305n3", True),
        ("probe4194305", True),
        ("edge{}n3", False),
        ("edge", False),
        ("x1n2", False),
    ],
)
def test_only_namespaces_of_processes_that_are_gone(name, mine):
    """4194304 is the largest id that Linux gives; {}: of this process."""
    assert ssh_hosts.orphaned(name.format(os.getpid())) == mine
