"""The files of a catalogue, always of one state: a reader never sees the vectors of one and the points of another.

What is added goes as a whole into a folder beside them, `pending`, which appears at once; then file by file into their
places. Whoever finds `pending` there takes what it holds: its writer was killed, or is not done.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import disk
from edge.arrays import Floats
from edge.defects import vectors
from edge.errors import UserError
from edge.inference.jsonfile import parsed
from edge.inference.names import without_waiting

HEAD, VECTORS, POINTS = "catalogue.json", "vectors.safetensors", "points.jsonl"
EXAMPLES = (VECTORS, POINTS)
THUMBNAILS, MODEL = "thumbnails", "model"
PENDING, LOCK = "pending", ".lock"
TRIES, PAUSE = 3, 0.05  # of reading again; seconds before it


@dataclass(frozen=True)
class Whole:
    """What the three files hold, of one state."""

    head: Any
    vectors: Floats
    points: bytes


def whole(folder: Path) -> Whole:
    """The content of a catalogue; UserError where a file is missing or differs from the sha256 in catalogue.json."""
    for _ in range(TRIES):
        try:
            return _read(folder)
        except (UserError, FileNotFoundError):
            time.sleep(PAUSE)  # it may be being written
    try:
        return _read(folder)
    except FileNotFoundError:
        raise _missing(folder) from None


def _missing(folder: Path) -> UserError:
    name = next((name for name in (HEAD, *EXAMPLES) if not (folder / name).exists()), HEAD)
    return UserError(f"{folder / name}: not found; a catalogue holds {HEAD}, {VECTORS} and {POINTS}")


def _read(folder: Path) -> Whole:
    place = folder / PENDING if (folder / PENDING / HEAD).exists() else folder
    head = parsed(place / HEAD, content(place / HEAD))
    digests = head.get("files") if isinstance(head, dict) else None
    if not isinstance(digests, dict):
        raise UserError(f"{place / HEAD}: files: missing; this is no catalogue")
    found = {name: content(place / name) for name in EXAMPLES}
    for name, data in found.items():
        if _digest(data) != digests.get(name):
            raise UserError(f"{place / name}: content differs from sha256 in {HEAD}; make the catalogue again")
    return Whole(head, vectors.read(place / VECTORS, found[VECTORS]), found[POINTS])


def content(path: Path) -> bytes:
    """The bytes of a regular file; FileNotFoundError where there is none."""
    try:
        with open(path, "rb", opener=without_waiting) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > vectors.MOST_BYTES:
                raise UserError(f"{path}: no regular file of a size that can be")
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror or error}") from None


def write(folder: Path, head: dict[str, Any], vectors_: Floats, lines: Sequence[str]) -> None:
    """Writes the three files: `head` is all of catalogue.json but the digests, a line the JSON text of a point."""
    vectors.write(folder / VECTORS, vectors_)
    (folder / POINTS).write_bytes("".join(line + "\n" for line in lines).encode())
    digests = {name: _digest((folder / name).read_bytes()) for name in EXAMPLES}
    text = json.dumps({**head, "files": digests}, indent=2, sort_keys=True)
    (folder / HEAD).write_bytes(f"{text}\n".encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The right to write into a catalogue, as long as the block lasts; UserError where another process has it."""
    try:
        import fcntl  # not on Windows
    except ImportError:
        yield
        return
    try:
        stream = open(folder / LOCK, "ab")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UserError(f"{folder}: can't be written: {error.strerror or error}") from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise UserError(f"{folder}: can't be locked: {error.strerror or error}") from None
            raise UserError(f"{folder}: another process adds to this catalogue; try again when it is done") from None
        yield


def replace(folder: Path, fill: Callable[[Path], None]) -> None:
    """Replaces the three files by those that `fill` writes into a folder, all or none, whenever the power fails; by
    whoever holds the lock."""
    settle(folder)
    fresh = folder / f".{PENDING}.part"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir()
        fill(fresh)
        for name in (*EXAMPLES, HEAD):
            disk.sync(fresh / name)
        disk.sync(fresh)
        os.replace(fresh, folder / PENDING)  # from here on it is done
        disk.sync(folder)
        settle(folder)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise UserError(f"{folder}: can't be written: {error.strerror or error}") from None


def settle(folder: Path) -> None:
    """Puts what a writer left in `pending` into its places."""
    pending = folder / PENDING
    if not (pending / HEAD).exists():
        return
    for name in (*EXAMPLES, HEAD):
        part = folder / f".{name}.part"
        shutil.copyfile(pending / name, part)
        disk.sync(part)
        os.replace(part, folder / name)
    disk.sync(folder)
    gone = folder / f".{PENDING}.done"
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(pending, gone)
    shutil.rmtree(gone, ignore_errors=True)
