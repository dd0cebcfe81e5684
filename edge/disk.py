"""Files that are on the disk before anything is said to be done, so that a power cut takes nothing back."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

UNABLE = (errno.EINVAL, errno.ENOTSUP)  # says a file system that can't be told to write the names of a folder


def sync(path: Path) -> None:
    """Waits until the disk has a file, or the names in a folder; OSError where it fails."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNABLE:
            raise
    finally:
        os.close(handle)


def write(path: Path, data: bytes) -> None:
    """Writes a file that appears whole or not at all, and is on the disk when this returns; OSError where it fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        sync(temporary)
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()
    sync(path.parent)
