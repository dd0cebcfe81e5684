"""Writes JPEG pictures as a video that players read: AVI with Motion JPEG (Microsoft's AVI RIFF file reference). The
pictures stay as they are, so it costs nothing, and nothing is decoded that was hidden before."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 1 << 30  # of a file: AVI of this form ends at 2 GiB, and readers differ from 1 GiB on
HEADER = 224  # bytes up to the first picture
INDEX_ENTRY = 16  # bytes


class AviFile:
    """`add` JPEG pictures of one size, then `finish` with the seconds between two of them. OSError when the disk takes
    no more: then what was added before is still there, and `finish` leaves out as many of the last pictures as the
    index needs room for."""

    def __init__(self, path: Path, width: int, height: int):
        self.path, self.bytes, self.frames = path, HEADER, 0
        self._size = width, height
        self._ends: list[int] = []  # of the pictures' chunks, padding included
        self._lengths: list[int] = []  # of the pictures
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            self._write(0, self._header(1.0))
        except OSError:
            self.abandon()
            raise

    def add(self, jpeg: bytes) -> None:
        chunk = b"00dc" + struct.pack("<I", len(jpeg)) + jpeg + b"\0" * (len(jpeg) % 2)
        self._write(self.bytes, chunk)
        self.bytes += len(chunk)
        self.frames += 1
        self._ends.append(self.bytes)
        self._lengths.append(len(jpeg))

    def sync(self) -> None:
        """Has the system write what it holds back, so that `finish` takes less time."""
        os.fdatasync(self._file)

    def finish(self, period: float) -> None:
        """Completes the file, `period` seconds between two pictures, and brings it to the disk; OSError when not even
        one picture and its index fit."""
        while True:
            try:
                os.ftruncate(self._file, self.bytes)  # what a write left that failed in the middle
                self._write(self.bytes, self._index())
                break
            except OSError:
                if self.frames <= 1:
                    raise
                self._leave_out(max(1, self.frames // 16))
        self.bytes += 8 + INDEX_ENTRY * self.frames
        self._write(0, self._header(period))
        os.fsync(self._file)
        os.close(self._file)
        self._file = -1

    def abandon(self) -> None:
        """Removes the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        with suppress(OSError):  # it may have gone with its folder
            self.path.unlink()

    def _leave_out(self, count: int) -> None:
        del self._ends[-count:], self._lengths[-count:]
        self.frames -= count
        self.bytes = self._ends[-1]

    def _write(self, place: int, data: bytes) -> None:
        """All of it: a write that the disk takes in part says so only by what it returns."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, place)
            view, place = view[written:], place + written

    def _index(self) -> bytes:
        starts = [HEADER, *self._ends[:-1]]
        first = HEADER - 4  # where the list `movi` has its name, from which places are counted
        rows = (
            struct.pack("<4sIII", b"00dc", 0x10, start - first, length)
            for start, length in zip(starts, self._lengths)  # noqa: B905 (Python 3.9)
        )
        return b"idx1" + struct.pack("<I", INDEX_ENTRY * self.frames) + b"".join(rows)

    def _header(self, period: float) -> bytes:
        """All before the first picture, when the file has its index already (or will have one)."""
        width, height = self._size
        micro = min(max(1, round(period * 1e6)), 2**32 - 1)
        largest = max(self._lengths, default=0)
        per_second = min(2**31 - 1, round(largest / max(period, 1e-6)))
        has_index, streams = 0x10, 1
        main = struct.pack(
            "<14I", micro, per_second, 0, has_index, self.frames, 0, streams, largest, width, height, 0, 0, 0, 0
        )
        stream = b"vidsMJPG" + struct.pack("<IHHI", 0, 0, 0, 0)
        stream += struct.pack("<IIIIIiI", micro, 10**6, 0, self.frames, largest, -1, 0)
        stream += struct.pack("<4h", 0, 0, min(width, 2**15 - 1), min(height, 2**15 - 1))
        form = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", 3 * width * height, 0, 0, 0, 0)
        strl = _chunk(b"LIST", b"strl" + _chunk(b"strh", stream) + _chunk(b"strf", form))
        hdrl = _chunk(b"LIST", b"hdrl" + _chunk(b"avih", main) + strl)
        end = self._ends[-1] if self._ends else HEADER
        movi = b"LIST" + struct.pack("<I", end - HEADER + 4) + b"movi"
        header = b"RIFF" + struct.pack("<I", self.bytes - 8) + b"AVI " + hdrl + movi
        assert len(header) == HEADER
        return header


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data
