"""Frames of a file, a network stream or a camera; the only place that decodes video, and it guards what it decodes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import cv2
import numpy as np

from edge.address import masked
from edge.app import reach
from edge.app.privacy import Guard
from edge.app.reach import is_camera, local_file
from edge.arrays import Image
from edge.errors import UserError, reason
from edge.inference.names import taken

FAILED_READS = 5  # in a row: a live source is lost
FAILED_READS_OF_A_FILE = 250  # in a row: nothing more comes, whatever its header says
SLOW_READ = 2.0  # seconds: so is one whose failing read took so long
BACKOFF = (0.5, 30.0)  # seconds before the first reconnection and at most; doubles in between
DOWNLOADS = {"http", "https", "ftp"}  # protocols that serve files, too
FILES = {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
TIMEOUT_MS = 5000  # of opening and reading a network stream

Note = tuple[int, float, float]  # of a frame: its index, the container's seconds, the clock when it was read


def open_video(where: str) -> cv2.VideoCapture:
    """OpenCV's capture of a file, an address or a camera's number."""
    if is_camera(where):
        return cv2.VideoCapture(int(where))
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
    if "://" in where:
        return cv2.VideoCapture(where, cv2.CAP_FFMPEG, timeouts)
    with taken(where) as name:
        return cv2.VideoCapture(name, cv2.CAP_FFMPEG, timeouts)


def is_live(where: str, frames: float) -> bool:
    """Whether a source has no end: a camera, or an address that is no file. `frames`: what the container says.

    Downloaded files name their length, or end as files of video do; a camera's stream does neither.
    """
    if is_camera(where):
        return True
    if "://" not in where:
        return False
    address = urlsplit(masked(where))  # a password may hold what would end the host
    if address.scheme.lower() not in DOWNLOADS:
        return True
    return frames <= 0 and PurePosixPath(address.path).suffix.lower() not in FILES


def has_table(where: str) -> bool:
    """Whether a file's container counts its frames: AVI and MP4 do; MKV, WebM, TS and whatever is far away don't."""
    try:
        with open(where, "rb") as stream:
            start = stream.read(8)
    except (OSError, ValueError):
        return False
    return start[:4] == b"RIFF" or start[4:] == b"ftyp"


class Source:
    """`frames(stop)` yields (index, seconds, frame), uint8 RGB, each already through `guard`; UserError when it can't
    be opened at all.

    A live source (a camera, or an address that is no file) that vanishes is opened again with growing pauses until it
    is back; a file ends, or starts again with `loop`, and `realtime` plays it at its own speed. `counts`: frames
    decoded, broken frames skipped, frames that the guard withheld, reconnections.
    """

    def __init__(
        self,
        where: str | Path | int,
        guard: Guard | None = None,
        loop: bool = False,
        realtime: bool = False,
        open: Callable[[str], cv2.VideoCapture] = open_video,
    ):
        given = masked(str(where))  # as it was given: a path alone does not look like an address any more
        self.where = reach.camera(local_file(str(where)))
        self.guard, self.loop, self._open = guard, loop, open
        self.remote = is_camera(self.where) or "://" in self.where
        self.counts = {"in": 0, "corrupt": 0, "withheld": 0, "reconnects": 0}
        self.lost = False  # a live source that vanished and is not back yet
        reach.check(self.where, given)
        try:
            self._capture = self._open(self.where)
            fine = self._capture.isOpened()
        except cv2.error as error:
            kind = reach.NotThere if self.remote else UserError
            raise kind(f"{given}: can't be opened: {reason(error)}") from None
        if not fine:
            raise reach.failure(self.where, given)
        self.live = is_live(self.where, self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.realtime = realtime or self.live
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else 25.0
        sides = (self._capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self.frame_bytes = int(min(max(1.0, 3 * math.prod(sides)), 1e12))

    def frames(self, stop: threading.Event) -> Iterator[tuple[int, float, Image]]:
        start, offset = time.monotonic(), 0.0
        try:
            while not stop.is_set():
                before, seconds = self.counts["in"], 0.0
                for (index, at, read), frame in self._guarded(self._until_it_ends(stop)):
                    seconds = read - start if self.live else round(offset + at, 6)
                    if self.realtime and not self.live:
                        stop.wait(max(0.0, seconds - (time.monotonic() - start)))
                    yield index, seconds, frame
                if self.live:
                    self._reconnect(stop)
                elif not self.loop or self.counts["in"] == before:
                    return
                else:
                    offset = seconds + 1 / self.fps
                    self._capture.release()
                    self._capture = self._open(self.where)
        finally:
            self._capture.release()

    def _guarded(self, frames: Generator[tuple[Note, Image], None, None]) -> Iterator[tuple[Note, Image]]:
        """The frames with everything hidden in place; those that the guard withholds are counted."""
        if self.guard is None:
            yield from frames
            return
        with closing(self.guard.video(frames)) as guarded:
            for note, frame in guarded:
                if frame is None:
                    self.counts["withheld"] += 1
                else:
                    yield note, frame

    def _until_it_ends(self, stop: threading.Event) -> Generator[tuple[Note, Image], None, None]:
        """The frames of one opening, with nothing hidden yet: for `_guarded` alone. It ends after several failed reads
        in a row.

        A file that has a table of its frames may have broken ones among them, and so ends later; what is missing at its
        end is broken. In another one the number of frames is a guess from its length (a sound track may go on, the last
        frame may come an hour later), so that nothing is missing there.
        """
        expected = 0 if self.live else max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        patience = FAILED_READS if self.live else FAILED_READS_OF_A_FILE
        seen = failed = 0
        at = -1 / self.fps
        while not stop.is_set():
            before = time.monotonic()
            frame = self._read()
            seen += 1
            if frame is not None:
                at = self._time(at, at + (1 + failed) / self.fps)
                self.counts["corrupt"] += failed
                failed = 0
                self.counts["in"] += 1
                yield (self.counts["in"] + self.counts["corrupt"] - 1, at, time.monotonic()), frame
                continue
            failed += 1
            slow = self.remote and time.monotonic() - before > SLOW_READ
            if failed >= patience or slow or (not self.live and seen >= expected):
                if not self.live and has_table(self.where):
                    self.counts["corrupt"] += failed if seen <= expected else failed - 1
                return

    def _time(self, last: float, otherwise: float) -> float:
        """Seconds from the container's start to the frame just read, as it says; times that don't go on mean nothing.

        Frames needn't be evenly spaced: phones record at a variable rate."""
        at = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return at if math.isfinite(at) and at > max(last, -1e-9) else otherwise

    def _read(self) -> Image | None:
        """One decoded frame in RGB, None when there is none or it is broken."""
        try:
            fine, frame = self._capture.retrieve() if self._capture.grab() else (False, None)
        except cv2.error:
            return None
        if not fine or frame is None or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            return None
        # in place: no second copy of what the guard will hide
        rgb: Image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, frame)
        return rgb

    def _reconnect(self, stop: threading.Event) -> None:
        pause, longest = BACKOFF
        self._capture.release()
        self.lost = True
        while not stop.wait(pause):
            with suppress(cv2.error):
                self._capture = self._open(self.where)
                if self._capture.isOpened():
                    self.counts["reconnects"] += 1
                    self.lost = False
                    return
            self._capture.release()
            pause = min(2 * pause, longest)
