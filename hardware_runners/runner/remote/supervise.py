"""Runs commands on a device for someone far away, and leaves nothing behind when that someone is gone.

Started over SSH by file name, standard library only. The first line of stdin is the job as JSON; every byte after it
is a sign of life. The machine is locked for one job at a time. The commands, each in its own process group, are killed
at the end of stdin, when no byte came for `heartbeat_s`, on a signal, and when `limit_s` is over; the kernel kills them
when this process dies. Prints the JSON that the commands printed as one list. Exits with 75 when the machine is busy,
76 when it was told to end or heard nothing any more, 124 when the time was over.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

BUSY, LOST, TIMED_OUT = 75, 76, 124  # exit codes
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


class Governor:
    """Sets the CPU governor to `performance` for one job; what it was is kept in a file, so that the next job can
    put it back if this one is killed."""

    def __init__(self, path: str, cpus: str = "/sys/devices/system/cpu"):
        self.path, self.cpus = path, cpus

    def set(self) -> None:
        before = {}
        for name in sorted(os.listdir(self.cpus)):
            file = os.path.join(self.cpus, name, "cpufreq", "scaling_governor")
            if os.path.isfile(file):
                with open(file) as stream:
                    before[file] = stream.read().strip()
        with open(self.path, "w") as stream:
            json.dump(before, stream)
        for file in before:
            with open(file, "w") as stream:
                stream.write("performance")

    def restore(self) -> None:
        try:
            with open(self.path) as stream:
                before = json.load(stream)
        except (OSError, ValueError):
            return
        for file, value in before.items():
            with contextlib.suppress(OSError), open(file, "w") as stream:
                stream.write(value)
        os.unlink(self.path)


class Supervisor:
    """One job: {"lock": file, "holder": text, "lock_wait_s", "limit_s", "heartbeat_s", "commands": [[...]],
    "governor": bool}."""

    def __init__(self, job: dict[str, Any]):
        self.job = job
        self.child: subprocess.Popen[bytes] | None = None
        self.starting = threading.Lock()  # held for good by whoever ends it all, so that no new child starts
        self.governor = Governor(job["lock"] + ".governor")
        self.holds = False

    def run(self) -> int:
        threading.Thread(target=self.watch, daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        stream = self.lock()
        if stream is None:
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
            stream.truncate(0)

    def lock(self) -> TextIO | None:
        """The open lock file, or None when the machine stays busy; the holder's name is in the file."""
        stream = open_shared(self.job["lock"])
        deadline = time.monotonic() + self.job["lock_wait_s"]
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline:
                    holder = stream.readline().strip() or "another run"
                    print(f"busy: held by {holder}", file=sys.stderr)
                    return None
                time.sleep(0.05)
        self.holds = True
        stream.truncate(0)
        stream.write(f"{self.job['holder']}, process {os.getpid()}\n")
        stream.flush()
        return stream

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
        print(json.dumps(results), flush=True)
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


def open_shared(path: str) -> TextIO:
    """A file that every user of the machine may lock."""
    try:
        return open(path, "r+")
    except FileNotFoundError:
        before = os.umask(0)
        try:
            return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        finally:
            os.umask(before)


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
