"""Takes folders named by the hash of their content; sent over SSH as `python3 -c`, standard library only.

The first line of stdin is {"folder": ..., "names": [...]}. Answers with the names that are missing, then takes a tar
with them, and answers again. A folder appears whole or not at all; one unused for 30 days is removed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tarfile
import time

STALL_S, KEEP_DAYS = 5, 30


class Input:
    """Stdin for tarfile; a read that stalls ends this process, since its sender may be gone without a word."""

    def read(self, size: int) -> bytes:
        signal.alarm(STALL_S)
        try:
            return sys.stdin.buffer.read(size)
        finally:
            signal.alarm(0)


def stalled(*_: object) -> None:
    raise OSError("the sender went silent")


def answer(**values: object) -> None:
    print(json.dumps(values), flush=True)


def clean(folder: str) -> None:
    """Removes what a killed run left, and what nobody used for a month."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.startswith(".tmp-"):
            gone = not os.path.exists("/proc/" + name[5:])
        else:
            gone = (
                name.startswith(("code-", "model-", "pictures-"))
                and time.time() - os.path.getmtime(path) > KEEP_DAYS * 86400
            )
        if gone:
            shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    signal.signal(signal.SIGALRM, stalled)
    signal.alarm(STALL_S)
    wanted = json.loads(sys.stdin.buffer.readline())
    signal.alarm(0)
    folder = wanted["folder"]
    temporary = os.path.join(folder, f".tmp-{os.getpid()}")
    try:
        os.makedirs(folder, exist_ok=True)
        missing = [name for name in wanted["names"] if not os.path.isdir(os.path.join(folder, name))]
        for name in set(wanted["names"]) - set(missing):
            os.utime(os.path.join(folder, name))
        clean(folder)
        answer(missing=missing, home=os.path.abspath(folder), python=list(sys.version_info[:3]))
        if not missing:
            return
        os.makedirs(temporary)
        with tarfile.open(fileobj=Input(), mode="r|") as archive:  # type: ignore[call-overload] # "r|" only reads
            for member in archive:
                target = os.path.join(temporary, member.name)
                content = archive.extractfile(member) if member.isfile() else None
                if content is None or not os.path.abspath(target).startswith(os.path.abspath(temporary) + os.sep):
                    raise OSError("unexpected entry " + member.name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "wb") as stream:
                    shutil.copyfileobj(content, stream)
        os.sync()
        for name in missing:
            if not os.path.isdir(os.path.join(folder, name)):
                os.rename(os.path.join(temporary, name), os.path.join(folder, name))
        answer(received=missing)
    except (OSError, tarfile.TarError, EOFError) as error:
        answer(error=getattr(error, "strerror", None) or str(error), errno=getattr(error, "errno", None))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


main()
