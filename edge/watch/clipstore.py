"""The folder of clips: bounded in bytes, the oldest go first and are counted; nothing else in it is ever touched."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from edge import disk
from edge.errors import UserError

MARK = ".edge-vision-clips"  # the file by which a folder is known as one of ours, locked by who uses the folder
FULL = (errno.ENOSPC, errno.EDQUOT)
OURS = re.compile(r"(clip-[A-Za-z0-9._-]+)\.(avi|jpg)")
PART = re.compile(r"\.clip-[A-Za-z0-9._-]+\.part")
LONGEST = 100  # characters of a clip's name


class ClipStore:
    """Room for clips of `budget` bytes in a folder, which is made, or is empty, or was one before; UserError for any
    other, and where another process uses it. Removes what a killed process left half written."""

    def __init__(self, folder: str | Path, budget: int, say: Callable[[str], None]):
        self.folder, self.budget, self._say = Path(folder), budget, say
        self.counts = {"deleted": 0, "leftovers": 0}
        try:
            self._open()
        except (OSError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{folder}: can't be used for clips: {getattr(error, 'strerror', None) or error}") from None
        self._lock = threading.Lock()
        self._names: set[str] = set()  # of clips that are being written
        self._unnamed: set[str] = set()  # whole clips that no event has named yet
        self._clips = self._scan()  # bytes by name, oldest first
        self._bytes = sum(self._clips.values())
        self._open_bytes = 0  # of files that are being written
        with self._lock:
            self._make_room()

    def close(self) -> None:
        """Another process may use the folder."""
        self._mark.close()

    def new_name(self, event: str) -> str:
        """A name that no clip has or gets, from the id of an event."""
        stem = "clip-" + re.sub("[^A-Za-z0-9._-]", "_", event)[:LONGEST]
        name, number = stem, 1
        with self._lock:
            while name in self._names or any((self.folder / f"{name}{end}").exists() for end in (".avi", ".jpg")):
                name, number = f"{stem}-{number}", number + 1
            self._names.add(name)
        return name

    def part(self, name: str) -> Path:
        """Where a file is written until it is whole."""
        return self.folder / f".{name}.part"

    def grow(self, size: int) -> bool:
        """Takes so many bytes of the budget for a file that is being written, by deleting the oldest clips if need be;
        False where not all of them are enough, and then none is deleted for it."""
        with self._lock:
            if self._open_bytes + size > self.budget:
                return False
            self._open_bytes += size
            self._make_room()
            return True

    def release(self, name: str, size: int) -> None:
        """A clip is no longer being written: gives back what `grow` took for it, and its name if it was not kept."""
        with self._lock:
            self._open_bytes -= size
            self._names.discard(name)

    def keep(self, name: str, parts: Mapping[str, Path], named: bool) -> None:
        """Gives whole files (by their suffix) the name of their clip, for good; unless an event names it now, it is
        among the last to be deleted until it is `named`. OSError when that fails."""
        size = sum(path.stat().st_size for path in parts.values())
        for suffix, path in parts.items():
            os.replace(path, self.folder / f"{name}{suffix}")
        with suppress(OSError):  # not all file systems can
            disk.sync(self.folder)
        with self._lock:
            self._clips[name] = size
            self._bytes += size
            if not named:
                self._unnamed.add(name)

    def named(self, name: str) -> bool:
        """An event names the clip now, so that its age begins; False where it had to be deleted before."""
        with self._lock:
            self._unnamed.discard(name)
            if name not in self._clips:
                return False
            self._clips[name] = self._clips.pop(name)
            return True

    def gave_way(self, error: OSError) -> bool:
        """Whether the disk was full and the oldest clip has been deleted, so that it may be tried again."""
        with self._lock:
            return error.errno in FULL and self._delete_oldest()

    def _make_room(self) -> None:
        while self._bytes + self._open_bytes > self.budget and self._delete_oldest():
            pass

    def _delete_oldest(self) -> bool:
        """Whether there was one."""
        if not self._clips:
            return False
        name = next((clip for clip in self._clips if clip not in self._unnamed), next(iter(self._clips)))
        self._unnamed.discard(name)
        self._bytes -= self._clips.pop(name)
        self.counts["deleted"] += 1
        for suffix in (".avi", ".jpg"):
            try:
                (self.folder / f"{name}{suffix}").unlink()
            except FileNotFoundError:
                pass
            except OSError as error:
                self._say(f"{self.folder / name}{suffix}: can't be deleted: {error.strerror}")
        return True

    def _open(self) -> None:
        self.folder.mkdir(exist_ok=True)
        mark = self.folder / MARK
        if not mark.exists() and any(self.folder.iterdir()):
            raise UserError(f"{self.folder}: holds other files, and old clips are deleted; give an empty folder")
        self._mark = open(mark, "ab")  # noqa: SIM115 (its lock is held as long as this object lives)
        try:
            import fcntl  # not on every system
        except ImportError:
            return
        try:
            fcntl.flock(self._mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{self.folder}: is in use by another process; give each its own folder") from None

    def _scan(self) -> dict[str, int]:
        found: dict[str, tuple[float, int]] = {}
        for entry in os.scandir(self.folder):
            if not entry.is_file(follow_symlinks=False):
                continue
            if PART.fullmatch(entry.name):
                with suppress(OSError):
                    os.unlink(entry.path)
                    self.counts["leftovers"] += 1
            ours = OURS.fullmatch(entry.name)
            if ours:
                status = entry.stat()
                time, size = found.get(ours[1], (0.0, 0))
                found[ours[1]] = max(time, status.st_mtime), size + status.st_size
        return {name: size for name, (_, size) in sorted(found.items(), key=lambda item: item[1][0])}
