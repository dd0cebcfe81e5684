"""Real OpenSSH servers for the tests: each a device with its own host key, in a network namespace of its own where this
machine allows that (its cable can be pulled), else on a loopback port."""

import contextlib
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import asyncssh

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
PYTHON = Path(sys.executable)
NAMESPACE = re.compile(r"(?:edge|probe)([0-9]+)(?:n([0-9]+))?")
LOCK = re.compile(r"edge-vision-\w+-([0-9]+)\.lock(?:\.governor)?")
CONFIG = """\
ListenAddress {address}
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
AcceptEnv PYTHON*
Subsystem sftp internal-sftp
"""


@functools.cache
def namespaces() -> bool:
    """Whether this machine lets us make network namespaces."""
    if os.geteuid() or not shutil.which("ip"):
        return False
    name = f"probe{os.getpid()}"
    clean()
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return made


def clean(folders: tuple[Path, ...] = (Path("/run/netns"), Path("/var/run/netns"))) -> None:
    """Removes what a killed run left: namespaces with the servers in them (a link goes with its end), each named by the
    process that made it, and lock files of earlier versions."""
    names = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}
    for name in sorted(filter(orphaned, names)):
        pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
        for pid in map(int, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        found = NAMESPACE.fullmatch(name)
        if found and found[2]:  # the kernel takes it away some time after the namespace
            subprocess.run(["ip", "link", "del", link(int(found[1]), int(found[2]))], capture_output=True)
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
    for lock in Path("/tmp").glob("edge-vision-*.lock*"):
        found = LOCK.fullmatch(lock.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            lock.unlink(missing_ok=True)


def link(pid: int, number: int) -> str:
    """A name of 15 letters at most."""
    return f"ev{pid % 100000}n{number}"


def orphaned(name: str) -> bool:
    """Whether a namespace is one of ours whose process is gone."""
    found = NAMESPACE.fullmatch(name)
    return found is not None and not Path(f"/proc/{found[1]}").exists()


class Host:
    """An sshd; `home` is the HOME of who connects to it."""

    def __init__(self, folder: Path, home: Path, number: int):
        self.folder, self.home, self.number = folder, home, number
        self.netns = f"edge{os.getpid()}n{number}" if namespaces() else None
        self.link = link(os.getpid(), number)
        folder.mkdir(parents=True)
        self.new_host_key()
        client = home / ".ssh" / "id_ed25519"
        if not client.exists():
            client.parent.mkdir(mode=0o700, exist_ok=True)
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(str(client))
            key.write_public_key(f"{client}.pub")
            client.chmod(0o600)
        shutil.copy(f"{client}.pub", folder / "authorized_keys")
        if self.netns:
            base = f"10.{200 + os.getpid() % 50}.{number}"
            self.address, self.port = f"{base}.2", 22
            for command in (
                f"netns add {self.netns}",
                f"link add {self.link} type veth peer name {self.link}p",
                f"link set {self.link}p netns {self.netns}",
                f"addr add {base}.1/30 dev {self.link}",
                f"link set {self.link} up",
                f"-n {self.netns} addr add {base}.2/30 dev {self.link}p",
                f"-n {self.netns} link set {self.link}p up",
                f"-n {self.netns} link set lo up",
            ):
                subprocess.run(["ip", *command.split()], check=True)
        else:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.address, self.port = probe.getsockname()
        self.process = None
        self.start()

    def new_host_key(self) -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        (self.folder / "host_key").unlink(missing_ok=True)
        key.write_private_key(str(self.folder / "host_key"))
        (self.folder / "host_key").chmod(0o600)
        self.public = key.export_public_key().decode().strip()

    def trust(self) -> None:
        """Makes the host key known in `home`, in place of an older one."""
        known = self.home / ".ssh" / "known_hosts"
        name = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        lines = known.read_text().splitlines() if known.exists() else []
        lines = [line for line in lines if not line.startswith(f"{name} ")] + [f"{name} {self.public}"]
        known.write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        config = self.folder / "sshd_config"
        config.write_text(CONFIG.format(folder=self.folder, address=self.address, port=self.port))
        if not os.geteuid():
            Path("/run/sshd").mkdir(exist_ok=True)
        inside = ["ip", "netns", "exec", self.netns] if self.netns else []
        with open(self.folder / "log", "ab") as log:
            command = [*inside, SSHD, "-D", "-e", "-f", str(config)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection((self.address, self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text())

    def stop(self, what: str = "") -> None:
        """Ends the server and what it runs for its guests, as switching the device off does, or those of them whose
        command line holds `what`."""
        if self.process:
            for pid in [self.process.pid, *children(self.process.pid)]:
                if what in cmdline(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def cut(self) -> None:
        """Pulls the cable; without namespaces, ends the server and its connections, and leaves the guests alone."""
        if self.netns:
            subprocess.run(["ip", "link", "set", self.link, "down"], check=True)
        else:
            self.stop("sshd")

    def restore(self) -> None:
        if self.netns:
            subprocess.run(["ip", "link", "set", self.link, "up"], check=True)
        elif self.process is None:
            self.start()

    def close(self) -> None:
        self.stop()
        if self.netns:
            subprocess.run(["ip", "link", "del", self.link], check=False)
            subprocess.run(["ip", "netns", "del", self.netns], check=True)

    def device(self, name: str, **more) -> dict:
        """An inventory file for it, not enrolled yet."""
        return {
            "name": name,
            "transport": "ssh",
            "ssh": {"host": self.address, "port": self.port},
            "python": str(PYTHON),
            "folder": str(self.folder / "device"),
            "lock": f"{name}-{os.getpid()}",
            "limits": {"connect_s": 4.0, "lock_wait_s": 0.5, "run_s": 60.0},
            **more,
        }

    def leftovers(self) -> list[str]:
        """Command lines of processes that run our code in the device's folder."""
        mark = str(self.folder / "device").encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                inside = os.readlink(process / "cwd").encode()
            except OSError:
                continue
            if (mark in command or inside.startswith(mark)) and b"sshd" not in command:
                found.append(f"{process.name}: {command.replace(bytes(1), b' ').decode(errors='replace')[:200]}")
        return found


def cmdline(pid: int) -> str:
    """The command line of a process; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(bytes(1), b" ").decode(errors="replace")
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    """All processes that descend from one, nearest first."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [p for p, parent in parents.items() if parent == pid]
    for child in list(found):
        found += children(child)
    return found
