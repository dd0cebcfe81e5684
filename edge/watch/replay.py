"""The rules of a site over recorded video, faster than real time: what would have been reported, and figures for each
context."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from edge.app import reach, truth
from edge.app.reach import local_file
from edge.app.source import Source
from edge.errors import UserError
from edge.event import Event
from edge.watch.scene import Scene
from edge.watch.site import Camera, Site
from edge.watch.watcher import Watcher


@dataclass
class Figures:
    """What happened in one context."""

    vector: list[float] = field(default_factory=list)  # of the context, at its first frame
    judged: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    score: float = 0.0
    highest: float | None = None
    threshold: float | None = None
    hits: Counter[str] = field(default_factory=Counter)  # tp, fp, fn, tn of judged frames, with a truth file

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = {"judged": self.judged, "events": dict(self.events), "vector": self.vector}
        if self.objects:
            found["objects_per_frame"] = {k: round(n / self.judged, 3) for k, n in sorted(self.objects.items())}
        if self.highest is not None:
            found["score"] = {"mean": round(self.score / self.judged, 4), "highest": round(self.highest, 4)}
            found["score"]["threshold"] = None if self.threshold is None else round(self.threshold, 4)
        if self.hits:
            tp, fp, fn = (self.hits[key] for key in ("tp", "fp", "fn"))
            found["precision"] = round(tp / (tp + fp), 4) if tp + fp else None
            found["recall"] = round(tp / (tp + fn), 4) if tp + fn else None
        return found


class Replay:
    """`run()` sends a camera's frames of a file to the watcher; events come to `send`."""

    def __init__(self, site: Site, camera: Camera, clip: str, start: datetime, labels: dict[int, int] | None = None):
        self.site, self.start, self.labels = site, start, labels
        self.events: list[Event] = []
        self.contexts: dict[str, Figures] = {}
        self.watcher = Watcher(site, camera, self, live=False, seen=self._seen)
        guard = site.privacy.guard() if site.privacy else None
        self.source = Source(clip, guard)
        if self.source.live:
            raise UserError(f"{clip}: has no end; `watch` is for cameras")
        self._index = 0

    def send(self, event: Event) -> None:
        self.events.append(event)
        if event.phase == "new":
            self._figures(event.time).events[event.rule] += 1

    def run(self, stop: threading.Event) -> None:
        for index, seconds, frame in self.source.frames(stop):
            self._index = index
            self.watcher.look(frame, seconds, self.start + timedelta(seconds=seconds))
        self.watcher.close()

    def summary(self) -> dict[str, Any]:
        found = self.watcher.stats()
        found.pop("load")
        frames = {**self.source.counts, **found.pop("frames")}
        return {"frames": frames, **found, "contexts": {k: f.summary() for k, f in self.contexts.items()}}

    def _figures(self, when: datetime) -> Figures:
        context = self.site.contexts.at(when)
        key = " ".join(part for part in (context.weekday, context.slot, context.state) if part)
        if key not in self.contexts:
            vector = context.vector(tuple(self.watcher.zones), tuple(self.site.contexts.states))
            self.contexts[key] = Figures([round(value, 4) for value in vector])
        return self.contexts[key]

    def _seen(self, scene: Scene) -> None:
        figures = self._figures(scene.when)
        figures.judged += 1
        figures.objects.update(track.label for track in scene.tracks)
        if scene.anomaly is not None:
            figures.score += scene.anomaly.score
            figures.highest = max(scene.anomaly.score, figures.highest or scene.anomaly.score)
            figures.threshold = scene.limits.get("", scene.anomaly.threshold)
        if self.labels is not None and self._index in self.labels:
            reported = any(scene.flags.values())
            wanted = bool(self.labels[self._index])
            figures.hits[{(1, 1): "tp", (1, 0): "fp", (0, 1): "fn", (0, 0): "tn"}[reported, wanted]] += 1


def read_truth(path: str | None) -> dict[int, int] | None:
    return None if path is None else truth.read(path)


def started(path: str, given: datetime | None) -> datetime:
    """When a clip began: as given, else when its file was written last; UserError where there is none."""
    reach.check(local_file(path), path)
    if given is not None:
        return given
    return datetime.fromtimestamp(Path(local_file(path)).stat().st_mtime).astimezone()
