"""Writes a video in its own thread, and closes it so that it plays."""

from __future__ import annotations

import os
import re
import shutil
import threading
from pathlib import Path

import cv2

from edge.app.buffer import Buffer
from edge.app.container import count_frames
from edge.arrays import Image
from edge.errors import UserError, reason
from edge.inference.names import taken

CODECS = {".mp4": cv2.VideoWriter.fourcc(*"mp4v"), ".avi": cv2.VideoWriter.fourcc(*"MJPG")}
QUEUE = 8
LEAST_FPS, MOST_FPS = 0.01, 65535.0
RESERVE, RESERVE_PER_FRAME = 1 << 18, 64  # bytes of the disk that stay free for what finishes a file: its index


def frame_rate(fps: float) -> float:
    """The nearest rate that a file can hold: MPEG-4 takes a fraction n / 10^d whose n, as OpenCV forms it, has 16 bits.

    A rate with no such fraction (195.998) is rounded by a digit less; one under LEAST_FPS (a time lapse) is that.
    """
    for digits in (3, 2, 1, 0):
        rounded = round(fps, digits)
        if round(rounded * 10**digits) < 1 << 16:
            break
    return min(max(rounded, LEAST_FPS), MOST_FPS)


def check_name(path: Path) -> None:
    """UserError for a name whose end is of no format that can be written."""
    if path.suffix.lower() not in CODECS:
        raise UserError(f"{path}: the name of a video must end in {' or '.join(CODECS)}")


class Writer:
    """`put(picture)` hands over a uint8 RGB picture; leaving the `with` block finishes the file.

    The first picture sets the size. A full queue drops its oldest picture and counts it unless `lossless`. With
    `segment` (minutes) a new file NAME-0000, NAME-0001, ... starts so often: the index of an MP4 file lies in memory
    until the file is finished, and what was finished survives a power cut. The numbers go on after the last one that
    lies in the folder: no segment is ever replaced.

    `written` counts the pictures that are really in the finished files. UserError, of `put` or at the end, when some
    are not, when the disk is nearly full (what was written until then is finished first), or for whatever else fails.
    """

    def __init__(self, path: str | Path, fps: float, lossless: bool, segment: float = 0):
        self.path, self.fps, self.written = Path(path), frame_rate(fps), 0
        self._open_path, self._open_frames = self.path, 0  # of the file that is being written
        check_name(self.path)
        if not os.path.isdir(self.path.parent):
            what = "is no folder" if os.path.lexists(self.path.parent) else "does not exist"
            raise UserError(f"{path}: the folder {self.path.parent} {what}")
        self._length = max(1, round(segment * 60 * self.fps)) if segment else 0  # frames of a segment
        self._file: cv2.VideoWriter | None = None
        self._number = -1  # of the open segment
        self._size: tuple[int, int] | None = None
        self._queue: Buffer[Image] = Buffer(QUEUE, lossless)
        self._error: UserError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._queue.dropped

    def put(self, picture: Image) -> None:
        if self._error:
            raise self._error
        self._queue.put(picture)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *failure: object) -> None:
        self._queue.close()
        self._thread.join()
        if self._error and not any(failure):
            raise self._error

    def _run(self) -> None:
        try:
            try:
                for picture in self._queue:
                    self._write(picture)
            finally:
                self._finish()
        except UserError as error:
            self._error = error
        except Exception as error:  # cv2.error, MemoryError: whatever it is, the run ends and says so
            self._error = UserError(f"{self._open_path}: can't be written: {reason(error)}")
        finally:
            self._queue.close(discard=True)  # nobody waits for a thread that has gone

    def _write(self, picture: Image) -> None:
        if self._file is None or self._open_frames == self._length > 0:
            self._finish()
            self._begin(picture.shape[1::-1])
        if picture.shape[1::-1] != self._size:  # a camera may come back with another size
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        free = shutil.disk_usage(self.path.parent).free
        if free < RESERVE + RESERVE_PER_FRAME * self._open_frames + picture.nbytes // 4:
            self._finish()
            raise UserError(f"{self._open_path}: the disk is full; {self.written} frames were written")
        assert self._file is not None
        self._file.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self._open_frames += 1

    def _begin(self, size: tuple[int, int]) -> None:
        """Opens the next file; all segments have the size of the first."""
        self._size = self._size or size
        self._open_path = path = self._new_segment() if self._length else self.path
        try:
            if path.exists() and not path.is_file() and not path.is_dir():  # a pipe: opening it would wait
                raise UserError(f"{path}: can't be written: not a regular file")
            path.open("ab").close()
        except OSError as error:
            raise UserError(f"{path}: can't be written: {error.strerror}") from None
        with taken(path) as name:
            self._file = cv2.VideoWriter(name, CODECS[path.suffix.lower()], self.fps, self._size)
        if not self._file.isOpened():
            width, height = self._size
            raise UserError(f"{path}: OpenCV writes no video of {width} x {height} at {self.fps:g} per second there")

    def _finish(self) -> None:
        """Closes the open file and counts what is in it: neither codec nor OpenCV says when a write failed."""
        file, self._file = self._file, None
        if file is None:
            return
        file.release()
        wanted, self._open_frames = self._open_frames, 0
        found = min(wanted, count_frames(self._open_path))
        self.written += found
        if not self._open_path.exists():
            raise UserError(f"{self._open_path}: was removed while it was written")
        if found < wanted:
            raise UserError(f"{self._open_path}: holds {found} of {wanted} frames; is the disk full?")

    def _new_segment(self) -> Path:
        """An empty file with a number after all others; creating it here keeps a second recorder away from it."""
        pattern = re.compile(f"{re.escape(self.path.stem)}-([0-9]+){re.escape(self.path.suffix)}", re.IGNORECASE)
        while True:
            try:
                taken = [int(m[1]) for m in map(pattern.fullmatch, os.listdir(self.path.parent)) if m]
                self._number = max([self._number, *taken]) + 1
                path = self.path.with_name(f"{self.path.stem}-{self._number:04d}{self.path.suffix}")
                path.open("xb").close()
                return path
            except FileExistsError:
                continue
            except OSError as error:
                raise UserError(f"{self.path}: can't be written: {error.strerror}") from None
