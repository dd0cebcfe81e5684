"""How many frames a written video really holds: by the container's own structure, without decoding any."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")  # of MP4, each in the one before


def count_frames(path: Path) -> int:
    """The frames of a finished or cut-off .mp4 or .avi that lie in the file as a whole; 0 when it can't be played."""
    try:
        with open(path, "rb") as stream:
            end = os.fstat(stream.fileno()).st_size
            return _avi(stream, end) if stream.read(4) == b"RIFF" else _mp4(stream, end)
    except (OSError, struct.error):
        return 0


def _avi(stream: BinaryIO, end: int) -> int:
    """Chunks `00dc` or `00db`; every one counts whose bytes are all there, also without the index at the end."""
    count = at = 0
    while at + 8 <= end:
        stream.seek(at)
        name, size = struct.unpack("<4sI", stream.read(8))
        if name in (b"RIFF", b"LIST"):  # their own size is only known when the file is finished: go inside
            at += 12
            continue
        at += 8 + size
        count += name[2:] in (b"dc", b"db") and size > 0 and at <= end
        at += size % 2
    return count


def _mp4(stream: BinaryIO, end: int) -> int:
    """The entries of the first sample table; 0 without it, as it stands after the frames and needs them all."""
    start, stop = 0, end
    for wanted in BOXES:
        found = {name: (inside, after) for name, inside, after in _boxes(stream, start, stop)}
        if any(after > stop for _, after in found.values()) or wanted not in found:
            return 0
        start, stop = found[wanted]
    for name, inside, _ in _boxes(stream, start, stop):
        if name == b"stsz":
            stream.seek(inside + 8)
            return int(struct.unpack(">I", stream.read(4))[0])
    return 0


def _boxes(stream: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start of its content, end) of the boxes between two places."""
    while start + 8 <= stop:
        stream.seek(start)
        size, name = struct.unpack(">I4s", stream.read(8))
        inside = start + 8
        if size == 1:
            size, inside = struct.unpack(">Q", stream.read(8))[0], start + 16
        if size < inside - start:  # 0: as far as the file goes, of a box that was never finished
            return
        yield name, inside, start + size
        start += size
