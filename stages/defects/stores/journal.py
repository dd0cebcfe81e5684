"""Changes on their way into files: on the disk before they are acknowledged.

A line that a dying process left half is no change; every other one is whole by its checksum.
"""

import base64
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge import disk
from edge.errors import UserError

JOURNAL = ".journal"


class Journal:
    """The journal in a folder that is locked."""

    def __init__(self, folder: Path):
        self.path = folder / JOURNAL
        self._stream = open(self.path, "ab", buffering=0)  # noqa: SIM115
        disk.sync(folder)  # its name is on the disk before what it holds is acknowledged
        self._cut()

    @property
    def size(self) -> int:
        """Bytes of changes that are not in the files yet."""
        return os.fstat(self._stream.fileno()).st_size

    def append(self, **change) -> None:
        """Keeps a change; `vectors` may be an array [N, D]. An error leaves the journal as it was."""
        if (vectors := change.get("vectors")) is not None:
            change["vectors"] = [*vectors.shape, base64.b64encode(vectors.astype("<f4").tobytes()).decode()]
        text = json.dumps(change).encode()
        line = memoryview(b"%08x %s\n" % (zlib.crc32(text), text))
        end = self.size
        try:
            while line:
                line = line[self._stream.write(line) :]
            os.fsync(self._stream.fileno())
        except OSError:
            self._stream.truncate(end)
            raise

    def changes(self) -> Iterator[dict]:
        """What the journal holds, oldest first."""
        with open(self.path, "rb") as stream:
            for line in stream:
                change = json.loads(line[9:])
                if "vectors" in change:
                    count, dimension, data = change["vectors"]
                    found = np.frombuffer(base64.b64decode(data), "<f4").astype(np.float32)
                    change["vectors"] = found.reshape(count, dimension)
                yield change

    def clear(self) -> None:
        """The files have it all now."""
        self._stream.truncate(0)
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        self._stream.close()

    def _cut(self) -> None:
        """Removes the end, where it is a line that was being written when the process died."""
        end = 0
        with open(self.path, "rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                if not _whole(line):
                    raise UserError(f"{self.path}: damaged after {end} bytes; restore it from a backup")
                end += len(line)
        self._stream.truncate(end)


def _whole(line: bytes) -> bool:
    try:
        return int(line[:8], 16) == zlib.crc32(line[9:-1])
    except ValueError:
        return False
