"""Takes folders named by the hash of their content; sent over SSH as `python3 -c`, standard library only.

The first line of stdin is {"folder": ..., "names": [...]}. Answers with the names that are missing, then takes a tar
with them, and answers again. A folder appears whole or not at all; one unused for 30 days is removed. They are kept in
a folder of their own, which a mark tells from others, so that nothing of the user's is ever removed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import sys
import tarfile
import time

STALL_S, KEEP_DAYS = 5, 30
MARK = ".edge-vision"  # in a folder that is ours
OURS = re.compile(r"(code|model|pictures)-[0-9a-f]{20}|\.tmp-[0-9]+|state")


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
    print("edge-vision-answer: " + json.dumps(values), flush=True)


def prepare(folder: str) -> str:
    """Makes the folder, with a mark in it; refuses one that somebody made for something else, or that others own."""
    path = os.path.realpath(os.path.expanduser(folder))
    if path in ("/", os.path.realpath(os.path.expanduser("~")), os.path.realpath(".")):
        raise OSError("it is not a folder for this alone; name another one as `folder`")
    os.makedirs(path, mode=0o700, exist_ok=True)
    if os.stat(path).st_uid != os.geteuid() or os.stat(path).st_mode & stat.S_IWOTH:
        raise OSError("others may write to it; name another one as `folder`")
    mark = os.path.join(path, MARK)
    if not os.path.isfile(mark):
        if not all(OURS.fullmatch(name) or name == MARK for name in os.listdir(path)):  # all: of a version without mark
            raise OSError("it holds other files; name a folder for this alone as `folder`")
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    return path


def clean(folder: str) -> None:
    """Removes what a killed run left, and what nobody used for a month: by our own hashed names, in our own folder."""
    for name in filter(OURS.fullmatch, os.listdir(folder)):
        path = os.path.join(folder, name)
        if name == "state":
            continue
        if name.startswith(".tmp-"):
            gone = not os.path.exists("/proc/" + name[5:])
        else:
            gone = time.time() - os.lstat(path).st_mtime > KEEP_DAYS * 86400
        if gone and os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    signal.signal(signal.SIGALRM, stalled)
    signal.alarm(STALL_S)
    wanted = json.loads(sys.stdin.buffer.readline())
    signal.alarm(0)
    temporary = ""
    try:
        folder = prepare(wanted["folder"])
        temporary = os.path.join(folder, f".tmp-{os.getpid()}")
        missing = [name for name in wanted["names"] if not os.path.isdir(os.path.join(folder, name))]
        for name in set(wanted["names"]) - set(missing):
            os.utime(os.path.join(folder, name))
        clean(folder)
        answer(missing=missing, home=folder, python=list(sys.version_info[:3]))
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
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


main()
