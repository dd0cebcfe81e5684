"""What is known of one frame: its objects and where they stand, its anomaly, its poses, the sensors, the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from edge.arrays import Floats
from edge.watch.pose import Pose
from edge.watch.tracker import Track
from edge.watch.zones import Line, Zone

if TYPE_CHECKING:
    from edge.inference.detector import Prediction

TRAIL = 5.0  # seconds of an object's way that are kept


@dataclass(frozen=True)
class Anomaly:
    """What an anomaly model says of a frame or of the clip that it ends; `map` is float32 [h, w] of the whole frame,
    smoothed as for the score. `prediction` is what the type of a defect is told from."""

    score: float
    threshold: float
    map: Floats = field(repr=False)
    by_map: bool = True  # the score is the largest value of the map, so that a part of it compares with the threshold
    model: str = ""
    sha256: str = ""
    prediction: Prediction | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Scene:
    """One frame of one camera. `seconds` runs steadily and is for durations, `when` is UTC and for clocks and events.

    `inside`: the tracks in each zone. `trails`: the ways (seconds, x, y) of the feet, by the track's origin.
    `anomaly` and `poses` (by origin) are the latest; `flags`: which rules found something in this frame.
    """

    camera: str
    seconds: float
    when: datetime
    aspect: float = 1.0  # width by height
    tracks: tuple[Track, ...] = ()
    zones: Mapping[str, Zone] = field(default_factory=dict)
    lines: Mapping[str, Line] = field(default_factory=dict)
    inside: Mapping[str, list[Track]] = field(default_factory=dict)
    trails: Mapping[int, deque[tuple[float, float, float]]] = field(default_factory=dict)
    anomaly: Anomaly | None = None
    poses: Mapping[int, Pose] = field(default_factory=dict)
    sensors: Mapping[str, bool] = field(default_factory=dict)
    contrast: float | None = None  # standard deviation of the grey values of the small picture
    limits: Mapping[str, float] = field(default_factory=dict)  # learned thresholds, by zone ("" for the frame)
    flags: dict[str, bool] = field(default_factory=dict)

    def velocity(self, track: Track, over: float, scale: tuple[float, float]) -> tuple[float, float] | None:
        """How fast a track's foot went during the last `over` seconds, in `scale` (what a frame's width and height
        measure) per second; None where it was not seen for most of them."""
        trail = self.trails.get(track.origin)
        if not trail:
            return None
        recent = [at for at in trail if at[0] >= trail[-1][0] - over - 1e-6]
        span = recent[-1][0] - recent[0][0]
        if span < 0.7 * over or self.seconds - trail[-1][0] > over:
            return None
        half = max(1, len(recent) // 4)  # means of the first and last sightings: a box trembles
        start, end = np.mean(recent[:half], axis=0), np.mean(recent[-half:], axis=0)
        time = end[0] - start[0]
        if time <= 0:
            return None
        return float((end[1] - start[1]) / time * scale[0]), float((end[2] - start[2]) / time * scale[1])


class Trails:
    """Keeps the ways of what is tracked: `step(tracks, now)` gives them by origin."""

    def __init__(self) -> None:
        self._trails: dict[int, deque[tuple[float, float, float]]] = {}

    def step(self, tracks: list[Track], now: float) -> dict[int, deque[tuple[float, float, float]]]:
        for track in tracks:
            trail = self._trails.setdefault(track.origin, deque())
            if track.missed == 0:
                trail.append((now, *track.foot))
        for trail in self._trails.values():
            while trail and now - trail[0][0] > TRAIL:
                trail.popleft()
        self._trails = {origin: trail for origin, trail in self._trails.items() if trail}
        return self._trails
