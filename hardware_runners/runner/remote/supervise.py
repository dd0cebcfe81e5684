"""Runs commands on a device for someone far away, and leaves nothing behind when that someone is gone.

Started over SSH by file name, standard library only. The first line of stdin is the job as JSON; every byte after it
is a sign of life. The machine is locked for one job at a time. The commands, each in its own process group, are killed
at the end of stdin, when no byte came for `heartbeat_s`, on a signal, and when `limit_s` is over; the kernel kills them
when this process dies. Prints the JSON that the commands printed as one list, behind a mark. Exits with 75 when the
machine is busy, 76 when it was told to end or heard nothing any more, 124 when the time was over.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

BUSY, LOST, TIMED_OUT = 75, 76, 124  # exit codes
PR_SET_PDEATHSIG = 1
CPU = re.compile(r"cpu[0-9]+")
GOVERNORS = ("performance", "powersave", "userspace", "ondemand", "conservative", "schedutil", "interactive")
libc = ctypes.CDLL(None)


class Governor:
    """Sets the CPU governor to `performance` for one job; what it was is kept in the file `name` of our own folder, so
    that the next job can put it back if this one is killed."""

    def __init__(self, folder: str, name: str, cpus: str = "/sys/devices/system/cpu"):
        self.folder, self.name, self.cpus = folder, name, cpus

    def set(self) -> None:
        before = {}
        for cpu in sorted(filter(CPU.fullmatch, os.listdir(self.cpus))):
            if os.path.isfile(self.file(cpu)):
                with open(self.file(cpu)) as stream:
                    before[cpu] = stream.read().strip()
        with private(self.folder) as folder:
            number = os.open(self.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
            with open(number, "w") as stream:
                json.dump(before, stream)
        for cpu in before:
            with open(self.file(cpu), "w") as stream:
                stream.write("performance")

    def restore(self) -> None:
        """Writes back known governors of this machine's CPUs and nothing else, from a file that nobody else can write;
        without a folder or file there is nothing to do."""
        with contextlib.suppress(OSError), private(self.folder, make=False) as folder:
            try:
                number = os.open(self.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
                with open(number) as stream:
                    ours(os.fstat(number), stat.S_ISREG, self.name)
                    before = json.load(stream)
            except ValueError:  # cut short when it was written
                before = {}
            for cpu, value in before.items() if isinstance(before, dict) else ():
                if CPU.fullmatch(cpu) and value in GOVERNORS and os.path.isfile(self.file(cpu)):
                    with contextlib.suppress(OSError), open(self.file(cpu), "w") as stream:
                        stream.write(value)
            os.unlink(self.name, dir_fd=folder)

    def file(self, cpu: str) -> str:
        return os.path.join(self.cpus, cpu, "cpufreq", "scaling_governor")


@contextlib.contextmanager
def private(path: str, make: bool = True) -> Iterator[int]:
    """A descriptor of our folder, mode 0700; OSError when it is a link, or somebody else owns it or may write to it."""
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        ours(os.fstat(folder), stat.S_ISDIR, path)
        yield folder
    finally:
        os.close(folder)


def ours(found: os.stat_result, kind: Callable[[int], bool], path: str) -> None:
    """OSError unless it is of this kind, ours, and closed to others."""
    if not kind(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise OSError(f"{path}: somebody else may have written it; remove it")


class Lock:
    """One job at a time on this machine, whoever runs it: a name that the kernel gives to one socket and takes back at
    the end of the process. In no folder, so nothing is left behind, and no file of anybody can stand in its place.
    Whoever connects is told the holder."""

    def __init__(self, name: str, holder: str):
        self.address = f"\0edge-vision/{name}"
        self.holder = f"{holder}, process {os.getpid()}"
        self.socket = socket.socket(socket.AF_UNIX)

    def take(self) -> bool:
        """Whether it is ours now."""
        try:
            self.socket.bind(self.address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        self.socket.listen()
        threading.Thread(target=self.tell, daemon=True).start()
        return True

    def tell(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                guest, _ = self.socket.accept()
                with guest:
                    guest.sendall(self.holder.encode())

    def other(self) -> str:
        """Who holds it, as that one says."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as guest:
            guest.settimeout(1)
            guest.connect(self.address)
            said = guest.recv(200).decode(errors="replace")
            return "".join(letter for letter in said if letter.isprintable()) or "another run"
        return "another run"


class Supervisor:
    """One job: {"lock": name, "state": folder of ours, "holder": text, "lock_wait_s", "limit_s", "heartbeat_s",
    "commands": [[...]], "governor": bool}."""

    def __init__(self, job: dict[str, Any]):
        self.job = job
        self.child: subprocess.Popen[bytes] | None = None
        self.starting = threading.Lock()  # held for good by whoever ends it all, so that no new child starts
        self.governor = Governor(job["state"], f"governor-{job['lock']}.json")
        self.holds = False

    def run(self) -> int:
        threading.Thread(target=self.watch, daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        if not self.lock():
            return BUSY
        self.governor.restore()
        try:
            if self.job.get("governor"):
                self.governor.set()
            return self.work()
        except OSError as error:
            print(f"can't do what was asked: {error}", file=sys.stderr)
            return 1
        finally:
            self.governor.restore()

    def lock(self) -> bool:
        """Whether the machine is ours; False when it stays busy."""
        lock = Lock(self.job["lock"], self.job["holder"])
        deadline = time.monotonic() + self.job["lock_wait_s"]
        while not lock.take():
            if time.monotonic() >= deadline:
                print(f"busy: held by {lock.other()}", file=sys.stderr)
                return False
            time.sleep(0.05)
        self.holds = True
        return True

    def work(self) -> int:
        deadline = time.monotonic() + self.job["limit_s"]
        results = []
        for command in self.job["commands"]:
            with self.starting:
                self.child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    preexec_fn=end_with_parent(os.getpid()),
                )
            try:
                out, err = self.child.communicate(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.kill()
                print(f"took longer than {self.job['limit_s']:g} s", file=sys.stderr)
                return TIMED_OUT
            with self.starting:  # when stop() killed it, that has the last word
                code = self.child.returncode
            self.kill()  # what the command may have left in its group
            if code:
                lines = err.decode(errors="replace").strip().splitlines()
                died = f"killed by signal {-code}" + (" (out of memory?)" if code == -9 else "")
                print(died if code < 0 else lines[-1] if lines else f"ended with code {code}", file=sys.stderr)
                return 1
            results.append(json.loads(out))
        print(f"edge-vision-answer: {json.dumps(results)}", flush=True)
        return 0

    def watch(self) -> None:
        while True:
            ready, _, _ = select.select([0], [], [], self.job["heartbeat_s"])
            if not ready or not os.read(0, 4096):
                self.stop()  # nobody may read what this would say

    def stop(self) -> None:
        """Ends everything now. A signal may come while the main thread starts a child: then the kernel ends that."""
        self.starting.acquire(timeout=1)
        self.kill()
        if self.holds:
            self.governor.restore()
        os._exit(LOST)

    def kill(self) -> None:
        if self.child is None:
            return
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(2)


def end_with_parent(parent: int) -> Callable[[], None]:
    """What a child calls before its program starts: the kernel shall kill it when `parent` dies."""

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def read_job(timeout: float = 10) -> dict[str, Any]:
    """The first line of stdin, byte by byte, so that the signs of life behind it stay unread."""
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([0], [], [], timeout)
        byte = os.read(0, 1) if ready else b""
        if not byte:
            sys.exit("no job came")
        line += byte
    job: dict[str, Any] = json.loads(line)
    return job


if __name__ == "__main__":
    sys.exit(Supervisor(read_job()).run())
