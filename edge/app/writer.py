"""Writes a video in its own thread, and closes it so that it plays."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import cv2

from edge.app.buffer import Buffer
from edge.arrays import Image
from edge.errors import UserError

CODECS = {".mp4": cv2.VideoWriter.fourcc(*"mp4v"), ".avi": cv2.VideoWriter.fourcc(*"MJPG")}
QUEUE = 8


class Writer:
    """`put(picture)` hands over a uint8 RGB picture; leaving the `with` block finishes the file.

    The first picture sets the size. A full queue drops its oldest picture and counts it unless `lossless`. With
    `segment` (minutes) a new file NAME-0000, NAME-0001, ... starts so often: the index of an MP4 file lies in memory
    until the file is finished, and what was finished survives a power cut. The numbers go on after the last one that
    lies in the folder: no segment is ever replaced.
    """

    def __init__(self, path: str | Path, fps: float, lossless: bool, segment: float = 0):
        self.path, self.fps, self.written = Path(path), fps, 0
        if self.path.suffix.lower() not in CODECS:
            raise UserError(f"{path}: the name of a video must end in {' or '.join(CODECS)}")
        if not self.path.parent.is_dir():
            raise UserError(f"{path}: the folder {self.path.parent} does not exist")
        self._length = max(1, round(segment * 60 * fps)) if segment else 0  # frames of a segment
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
            for picture in self._queue:
                file = self._file
                if file is None or (self._length and self.written % self._length == 0):
                    file = self._next(picture.shape[1::-1])
                if picture.shape[1::-1] != self._size:  # a camera may come back with another size
                    picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
                file.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
                self.written += 1
        except UserError as error:
            self._error = error
            self._queue.close(discard=True)
        finally:
            if self._file is not None:
                self._file.release()

    def _next(self, size: tuple[int, int]) -> cv2.VideoWriter:
        """Finishes the open file and begins the next; all segments have the size of the first."""
        if self._file is not None:
            self._file.release()
        self._size = self._size or size
        path = self._new_segment() if self._length else self.path
        self._file = cv2.VideoWriter(str(path), CODECS[path.suffix.lower()], self.fps, self._size)
        if not self._file.isOpened():
            raise UserError(f"{path}: can't be written; check the folder's rights and free space")
        return self._file

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
