"""All cameras of a site at once: each has a thread that captures and one that judges; and what they did, as figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from glob import glob
from typing import Any

from edge.address import masked
from edge.app import reach
from edge.app.buffer import Buffer
from edge.app.reach import NotThere, local_file
from edge.app.source import Source
from edge.app.stream import LIVE_QUEUE
from edge.arrays import Image
from edge.errors import ModelError, UserError, reason
from edge.event import UTC, Event, Sink
from edge.watch.site import Camera, Site
from edge.watch.watcher import ClipRecorder, Inputs, Watcher

RETRY = (1.0, 60.0)  # seconds before a camera that can't be opened is tried again; doubles up to the second


class LockedSink:
    """A sink that several threads share."""

    def __init__(self, sink: Sink):
        self._sink, self._lock = sink, threading.Lock()

    def send(self, event: Event) -> None:
        with self._lock:
            self._sink.send(event)


class CameraRun:
    """One camera from its first frame to its last. One that is not there now is tried again and again; a file is played
    at its own speed. `error` is what ended it."""

    def __init__(self, site: Site, camera: Camera, watcher: Watcher, say: Callable[[str], None]):
        self.camera, self.watcher, self.say = camera, watcher, say
        self._guard = site.privacy.guard() if site.privacy else None
        self.error: Exception | None = None
        self.source: Source | None = None
        self.opened = self.failed = 0
        self._stop = threading.Event()
        self._frames: Buffer[tuple[float, datetime, Image]] = Buffer(LIVE_QUEUE, lossless=False)
        self._threads = [
            threading.Thread(target=self._run, args=(work,), daemon=True) for work in (self._capture, self._judge)
        ]
        self._began = time.monotonic()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No more frames are captured. Safe in a signal handler."""
        self._stop.set()

    def join(self, seconds: float | None = None) -> bool:
        """Waits until it has ended; False while it hasn't."""
        for thread in self._threads:
            thread.join(seconds)
        return not any(thread.is_alive() for thread in self._threads)

    def stats(self) -> dict[str, Any]:
        watched = self.watcher.stats()
        source = self.source.counts if self.source else {"in": 0, "corrupt": 0, "withheld": 0, "reconnects": 0}
        seconds = max(time.monotonic() - self._began, 1e-6)
        frames = {**source, **watched.pop("frames"), "dropped": self._frames.dropped, "not_opened": self.failed}
        return {"state": self.state, "fps": round(frames["in"] / seconds, 2), "frames": frames, **watched}

    @property
    def state(self) -> str:
        """What it does: "not there" and "lost" cameras are tried again until they are."""
        if self.error is not None:
            return "failed"
        if self.source is None:
            return "not there" if self.failed else "opening"
        if not self._threads[1].is_alive():
            return "ended"
        return "lost" if self.source.lost else "watching"

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.error = self.error or error
            self._stop.set()
        finally:
            if work == self._capture or self.error:
                self._frames.close(discard=self.error is not None)

    def _capture(self) -> None:
        source = self._open()
        if source is None:
            return
        for _, seconds, frame in source.frames(self._stop):
            self._frames.put((seconds, datetime.now(UTC), frame))

    def _open(self) -> Source | None:
        pause, longest = RETRY
        while not self._stop.is_set():
            try:
                self.source = Source(self.camera.source, self._guard, self.camera.loop, realtime=True)
                return self.source
            except NotThere as error:
                if not self.failed:
                    self.say(f"camera {self.camera.name}: {error}; trying again")
                self.failed += 1
            self._stop.wait(pause)
            pause = min(2 * pause, longest)
        return None

    def _judge(self) -> None:
        try:
            for seconds, when, frame in self._frames:
                self.watcher.look(frame, seconds, when)
        finally:
            self.watcher.close()


def run(
    site: Site,
    sink: Sink,
    recorder: ClipRecorder | None,
    inputs: Inputs,
    report: Callable[[dict[str, Any]], None],
    say: Callable[[str], None],
    stop: threading.Event,
    seconds: float | None = None,
    more: Callable[[], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """Watches until `stop` is set, all cameras have ended, or so many seconds have passed; returns the last figures.
    `report` gets them at the site's interval, with what `more` adds. An error of a camera is raised here: at once where
    it can't ever be opened, after the others otherwise."""
    check_sources(site)
    site.contexts.load()
    site.contexts.save()  # a file that can't be written is said now, not at the end
    shared = LockedSink(sink)
    watchers = [Watcher(site, camera, shared, recorder, inputs) for camera in site.cameras]
    cameras = [CameraRun(site, w.camera, w, say) for w in watchers]
    began = time.monotonic()

    def figures() -> dict[str, Any]:
        return {
            "device": site.device,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "uptime_s": round(time.monotonic() - began, 1),
            "temperature_c": temperature(),
            "memory_mb": memory(),
            "cameras": {camera.camera.name: camera.stats() for camera in cameras},
            **more(),
        }

    for camera in cameras:
        camera.start()
    due, last = began + site.stats, None if seconds is None else began + seconds
    try:
        while not stop.wait(0.2) and not all(camera.join(0) for camera in cameras):
            if any(camera.error is not None and camera.source is None for camera in cameras):
                break
            now = time.monotonic()
            if last is not None and now >= last:
                break
            if now >= due:
                due = now + site.stats
                report(figures())
                with suppress(UserError):  # a full disk now is no reason to stop watching
                    site.contexts.save()
    finally:
        for camera in cameras:
            camera.stop()
        for camera in cameras:
            camera.join()
    found = figures()
    report(found)
    site.contexts.save()
    for camera in cameras:
        if camera.error is not None:
            raise camera.error if isinstance(camera.error, UserError) else _told(camera)
    return found


def check_sources(site: Site) -> None:
    """ModelError for the first camera whose source can never be opened, whatever is done about cables and networks."""
    for number, camera in enumerate(site.cameras):
        given = masked(camera.source)
        try:
            reach.check(reach.camera(local_file(camera.source)), given)
        except NotThere:
            pass
        except UserError as error:
            raise ModelError(f"{site.path}: cameras.{number}.source: {error}") from None


def _told(camera: CameraRun) -> Exception:
    error = camera.error
    assert error is not None
    if isinstance(error, BrokenPipeError):  # the reader of the events went away
        return error
    if isinstance(error, (OSError, MemoryError)) or type(error).__module__.startswith("cv2"):
        return UserError(f"camera {camera.camera.name} ({masked(camera.camera.source)}): {reason(error)}")
    return error


def temperature() -> float | None:
    """Degrees Celsius of the hottest sensor of the processor, None where the system has none."""
    found = []
    for name in glob("/sys/class/thermal/thermal_zone*/temp"):
        with suppress(OSError, ValueError), open(name, encoding="ascii") as stream:
            found.append(int(stream.read()) / 1000)
    return max(found, default=None)


def memory() -> float | None:
    """Megabytes of RAM that this process has, None where the system doesn't say."""
    with suppress(OSError, ValueError, StopIteration), open("/proc/self/status", encoding="ascii") as stream:
        return round(int(next(line for line in stream if line.startswith("VmRSS")).split()[1]) / 1024, 1)
    return None
