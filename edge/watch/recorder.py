"""Clips of events: JPEG pictures in memory before one begins, on disk from then on, a video when it has ended."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from edge.arrays import Image
from edge.errors import UserError
from edge.event import Clip, Event
from edge.inference.fields import Fields
from edge.watch.avi import HEADER, INDEX_ENTRY, MOST_BYTES, AviFile
from edge.watch.clipstore import ClipStore

MOST_OPEN = 16  # clips of one camera at once; each is a file, and takes every picture
MORE = 8 + INDEX_ENTRY + 2  # bytes of a clip for each picture beside it
SYNC = 2 << 20  # bytes after which a clip is brought to the disk: a choice, so that no call waits long for it
BLOCK = 1 << 20  # bytes read at once for the hash


@dataclass(frozen=True)
class Settings:
    """Seconds before and after an event, and of the longest clip; pictures a second and their JPEG quality; bytes of
    the ring of each camera, and of all clips."""

    folder: Path
    before: float = 5.0
    after: float = 5.0
    longest: float = 60.0
    rate: float = 15.0
    quality: int = 80
    ring: int = 32 << 20
    budget: int = 1000 << 20


def parse(fields: Fields) -> Settings:
    """The settings of the object `clips` of a site, its folder relative to the site's own; UserError names the first
    field that is wrong."""
    default = Settings(Path("clips"))
    fields.values = {
        **{key: getattr(default, key) for key in ("before", "after", "longest", "rate", "quality")},
        "folder": "clips",
        "ring_mb": default.ring >> 20,
        "budget_mb": default.budget >> 20,
        **fields.values,
    }
    found = Settings(
        folder=fields.path.parent / fields.text("folder"),
        before=fields.number("before", 0, high=300),
        after=fields.number("after", 0, high=300),
        longest=fields.number("longest", 1, high=600),
        rate=fields.number("rate", 0.1, high=100),
        quality=fields.whole("quality", 1, 100),
        ring=fields.whole("ring_mb", 1, 1 << 14) << 20,
        budget=fields.whole("budget_mb", 1, 1 << 24) << 20,
    )
    if found.longest <= found.before:
        raise fields.error("longest", f"above before, which is {found.before:g}")
    return found


@dataclass
class _Open:
    """A clip that is being recorded; without a file when it is finished, or could not be begun."""

    name: str
    file: AviFile | None
    first: float  # seconds of its first picture
    peak: bytes  # the JPEG picture of the highest score
    score: float | None
    last: float = 0.0
    taken: int = 0  # bytes of the budget
    unsynced: int = 0  # bytes
    finished: bool = False
    done: Clip | None = None


@dataclass
class _Camera:
    """The pictures of the last seconds, all of one size (width, height), and the clips that are being recorded."""

    size: tuple[int, int]
    clock: float  # the camera's
    ring: deque[tuple[float, bytes]] = field(default_factory=deque)
    bytes: int = 0
    now: float = 0.0  # seconds that count up, whatever the camera's clock does
    due: float = 0.0  # when the next picture is taken
    open: dict[str, _Open] = field(default_factory=dict)  # by the event's id


class Recorder:
    """`add` every guarded frame (what is hidden in it is hidden in clips); `begin(event)` starts a clip some seconds
    earlier; `end(event)`, which whoever calls it does `after` seconds later, gives the clip, whole and under its name,
    or None where there is none.

    A clip ends after `longest` seconds, or where the disk takes no more of it. Each camera may have a thread of its
    own. `counts`: clips, shortened (by the disk), lost (none could be written), skipped (too many at once), deleted
    (the oldest, for the budget or a full disk), leftovers (half a clip, of a process that was killed).
    """

    def __init__(self, settings: Settings, say: Callable[[str], None] = lambda line: None):
        self.after = settings.after
        self._settings, self._say = settings, say
        self._store = ClipStore(settings.folder, settings.budget, say)
        self._cameras: dict[str, _Camera] = {}
        self._lock = threading.Lock()
        self._counts = {"clips": 0, "shortened": 0, "lost": 0, "skipped": 0}
        self._told = False

    @property
    def folder(self) -> Path:
        return self._settings.folder

    @property
    def counts(self) -> dict[str, int]:
        return {**self._counts, **self._store.counts}

    def add(self, camera: str, frame: Image, time: float) -> None:
        """Takes a guarded frame, uint8 [H, W, 3] RGB, at `time` in seconds of the camera's own clock."""
        at = self._cameras.get(camera)
        if at is None:
            at = self._cameras[camera] = _Camera((frame.shape[1], frame.shape[0]), time)
        step, at.clock = time - at.clock, time
        at.now += step if step >= 0 else 1 / self._settings.rate  # a file that begins again, a clock that was set
        if at.now < at.due - 0.25 / self._settings.rate:
            return
        at.due = max(at.due + 1 / self._settings.rate, at.now + 0.5 / self._settings.rate)
        jpeg = self._encoded(frame, at.size)
        self._into_ring(at, jpeg)
        for clip in at.open.values():
            self._record(clip, jpeg, at.now)

    def begin(self, event: Event) -> None:
        """Starts a clip `before` seconds before the camera's latest frame."""
        at = self._cameras.get(event.camera)
        if at is None or event.id in at.open:
            return
        if len(at.open) >= MOST_OPEN:
            self._count("skipped")
            return
        name = self._store.new_name(event.id)
        clip = _Open(name, self._new_file(name, at.size), at.ring[0][0], at.ring[-1][1], event.score)
        clip.taken = HEADER + MORE if self._store.grow(HEADER + MORE) else 0
        at.open[event.id] = clip
        for time, jpeg in at.ring:
            self._record(clip, jpeg, time)

    def update(self, event: Event) -> None:
        """Takes the camera's latest frame for the peak if the event's score is the highest until now."""
        at = self._cameras.get(event.camera)
        clip = at.open.get(event.id) if at else None
        if at and clip and event.score is not None and (clip.score is None or event.score > clip.score):
            clip.score, clip.peak = event.score, at.ring[-1][1]

    def end(self, event: Event) -> Clip | None:
        """The clip, which is on the disk when this returns; None where there is none, or none any more: that of a long
        event is whole long before, and has to go where nothing else is left to delete."""
        at = self._cameras.get(event.camera)
        clip = at.open.pop(event.id, None) if at else None
        if clip is None:
            return None
        if not clip.finished:
            self._finish(clip, named=True)
        elif clip.done and not self._store.named(clip.name):
            return None
        return clip.done

    def close(self) -> None:
        """Removes clips that have not ended, and lets another process use the folder."""
        for at in self._cameras.values():
            for clip in at.open.values():
                if clip.file is not None:
                    clip.file.abandon()
            at.open.clear()
        self._store.close()

    def _encoded(self, frame: Image, size: tuple[int, int]) -> bytes:
        if (frame.shape[1], frame.shape[0]) != size:  # a camera may come back with another size
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._settings.quality]
        done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), quality)
        if not done:
            raise UserError(f"no JPEG picture can be made of a frame of {size[0]} x {size[1]}")
        data: bytes = jpeg.tobytes()
        return data

    def _into_ring(self, at: _Camera, jpeg: bytes) -> None:
        at.ring.append((at.now, jpeg))
        at.bytes += len(jpeg)
        oldest = at.now - self._settings.before
        while len(at.ring) > 1 and (at.ring[0][0] < oldest - 1e-9 or at.bytes > self._settings.ring):
            at.bytes -= len(at.ring.popleft()[1])

    def _new_file(self, name: str, size: tuple[int, int]) -> AviFile | None:
        while True:
            try:
                return AviFile(self._store.part(name), *size)
            except OSError as error:
                if not self._store.gave_way(error):
                    self._tell(error)
                    return None

    def _record(self, clip: _Open, jpeg: bytes, time: float) -> None:
        if clip.file is None:
            return
        if time - clip.first > self._settings.longest or clip.file.bytes + len(jpeg) > MOST_BYTES:
            self._finish(clip)
            return
        size = len(jpeg) + MORE
        if self._store.grow(size):
            clip.taken += size
            if self._added(clip, clip.file, jpeg):
                clip.last = time
                return
        self._count("shortened")
        self._finish(clip)

    def _added(self, clip: _Open, file: AviFile, jpeg: bytes) -> bool:
        """Whether the disk took the picture."""
        while True:
            try:
                file.add(jpeg)
                break
            except OSError as error:
                if not self._store.gave_way(error):
                    self._tell(error)
                    return False
        clip.unsynced += len(jpeg)
        if clip.unsynced > SYNC:
            clip.unsynced = 0
            with suppress(OSError):  # `finish` does it again
                file.sync()
        return True

    def _finish(self, clip: _Open, named: bool = False) -> None:
        """Completes the file and gives it its name; `clip.done` says what it is then. named: its event has ended."""
        clip.finished = True
        file, clip.file = clip.file, None
        if file is not None and file.frames:
            period = (clip.last - clip.first) / (file.frames - 1) if file.frames > 1 else 1 / self._settings.rate
            peak = self._write_peak(clip)
            try:
                file.finish(period)
                digest = _sha256(file.path)
                self._store.keep(clip.name, {**({".jpg": peak} if peak else {}), ".avi": file.path}, named)
                picture = f"{clip.name}.jpg" if peak else None
                clip.done = Clip(f"{clip.name}.avi", digest, file.bytes, round(file.frames * period, 3), picture)
            except OSError as error:
                self._tell(error)
                _remove(peak)
        if file is not None and clip.done is None:
            file.abandon()
        self._store.release(clip.name, clip.taken)
        self._count("lost" if clip.done is None else "clips")
        self._told = self._told and clip.done is None

    def _write_peak(self, clip: _Open) -> Path | None:
        """The picture, not under its name yet; None where there is no room for it."""
        if not self._store.grow(len(clip.peak)):
            return None
        clip.taken += len(clip.peak)
        part = self._store.part(f"{clip.name}.jpg")
        try:
            with open(part, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as stream:
                stream.write(clip.peak)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            _remove(part)
            self._tell(error)
            return None
        return part

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _tell(self, error: OSError) -> None:
        """Says it once, until a clip can be written again."""
        if not self._told:
            self._say(f"{self._settings.folder}: a clip can't be written: {error.strerror or error}")
        self._told = True


def _remove(part: Path | None) -> None:
    if part is not None:
        with suppress(OSError):
            part.unlink()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while data := stream.read(BLOCK):
            digest.update(data)
    return digest.hexdigest()
