"""Which box of a frame is which object of the frames before.

Two-stage association by overlap with a constant velocity (after ByteTrack, Zhang et al., ECCV 2022): boxes that the
detector is sure of are matched first, doubtful ones only go on with what is already tracked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

OVERLAP, DOUBTFUL_OVERLAP = 0.2, 0.4  # IoU with the predicted box, for sure and doubtful boxes
CONFIRMED = 2  # sightings that make a track: fewer are noise
KEPT = 1.0  # seconds that a track is kept without a sighting
SHOWN = 0.5  # of these, seconds in which it still counts as being there
SMOOTH = 0.5  # weight of the newest velocity
REACH, DRIFT = 0.5, 0.5  # box heights: so far from where one was lost, or would be now, a track may be born again,
# and so much further for each second

Boxes = NDArray[np.float64]  # [N, 4]: left, top, right, bottom in fractions of the frame


@dataclass(frozen=True)
class Detection:
    """A box of one frame: left, top, right, bottom in fractions of it. One that is not `sure` may go on with a track
    but begins none."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    sure: bool = True


@dataclass
class Track:
    """An object followed through the frames. `origin` is the number of the first track of what seems to be the same
    object, where it was lost and born again; `missed` counts the frames since it was seen."""

    id: int
    label: str
    score: float
    box: tuple[float, float, float, float]
    first: float  # seconds of the first and latest sighting
    seen: float
    origin: int = -1
    missed: int = 0
    hits: int = 1
    velocity: Boxes = field(default_factory=lambda: np.zeros(4))  # of the box's sides, per second

    def __post_init__(self) -> None:
        if self.origin < 0:
            self.origin = self.id

    @property
    def foot(self) -> tuple[float, float]:
        """The bottom centre: where an object stands."""
        return (self.box[0] + self.box[2]) / 2, self.box[3]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    def predicted(self, now: float) -> Boxes:
        """Where the box should be by now; its size changes no further than to half or double."""
        box = np.array(self.box) + self.velocity * (now - self.seen)
        center, size = (box[:2] + box[2:]) / 2, np.array(self.box[2:]) - np.array(self.box[:2])
        half = np.clip(box[2:] - box[:2], size / 2, size * 2) / 2
        return np.concatenate([center - half, center + half])


class Tracker:
    """`step(detections, now)` gives the confirmed tracks of a frame, those included that were seen a moment ago."""

    def __init__(self, kept: float = KEPT, confirmed: int = CONFIRMED, reborn: float = 0.0):
        self.kept, self.confirmed = kept, confirmed
        self._tracks: list[Track] = []
        self._lineage = Lineage(reborn)
        self._next = 1

    def step(self, detections: Sequence[Detection], now: float) -> list[Track]:
        sure = [d for d in detections if d.sure]
        doubtful = [d for d in detections if not d.sure]
        for track in self._tracks:
            track.missed += 1
        rest, new = self._associate(self._tracks, sure, now, OVERLAP)
        self._associate([track for track in rest if track.hits >= self.confirmed], doubtful, now, DOUBTFUL_OVERLAP)
        for found in new:
            self._tracks.append(Track(self._next, found.label, found.score, found.box, now, now))
            self._next += 1
        self._tracks = [t for t in self._tracks if self._alive(t, now)]
        shown = [t for t in self._tracks if t.hits >= self.confirmed and (not t.missed or now - t.seen <= SHOWN)]
        return self._lineage.step(shown, now)

    def _alive(self, track: Track, now: float) -> bool:
        """What was seen once and then missed twice was noise."""
        return now - track.seen <= self.kept and (track.hits >= self.confirmed or track.missed < 2)

    @staticmethod
    def _associate(
        tracks: list[Track], detections: list[Detection], now: float, least: float
    ) -> tuple[list[Track], list[Detection]]:
        """Gives each track the box that overlaps it most; returns the tracks and boxes that are left."""
        predicted = np.array([track.predicted(now) for track in tracks]).reshape(-1, 4)
        overlap = overlaps(predicted, np.array([d.box for d in detections]).reshape(-1, 4))
        same = np.array([[track.label == d.label for d in detections] for track in tracks], bool)
        overlap = np.where(same.reshape(overlap.shape), overlap, 0)
        free_tracks, free_boxes = set(range(len(tracks))), set(range(len(detections)))
        for flat in np.argsort(-overlap, axis=None, kind="stable"):
            t, d = divmod(int(flat), len(detections))
            if overlap[t, d] < least:
                break
            if t in free_tracks and d in free_boxes:
                _seen(tracks[t], detections[d], now)
                free_tracks.discard(t)
                free_boxes.discard(d)
        return [tracks[t] for t in sorted(free_tracks)], [detections[d] for d in sorted(free_boxes)]


def _seen(track: Track, found: Detection, now: float) -> None:
    """The velocity is that over at least the last sighting; the first one is taken as it is."""
    span = now - track.seen
    if span > 0:
        velocity = (np.array(found.box) - np.array(track.box)) / span
        weight = SMOOTH if track.hits > 1 else 1.0
        track.velocity = weight * velocity + (1 - weight) * track.velocity
    track.box, track.score, track.seen = found.box, found.score, now
    track.missed, track.hits = 0, track.hits + 1


def overlaps(a: Boxes, b: Boxes) -> Boxes:
    """The intersection over union of boxes [N, 4] with boxes [M, 4]: [N, M]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.clip(high - low, 0, None).prod(-1)
    sizes = [np.clip(c[:, 2:] - c[:, :2], 0, None).prod(-1) for c in (a, b)]
    union = sizes[0][:, None] + sizes[1][None] - inner
    found: Boxes = inner / np.maximum(union, 1e-12)
    return found


class Lineage:
    """Passes the origin of a track that was lost on to one of its class that is born near that place within `reborn`
    seconds: an object that was hidden for a moment is not another one."""

    def __init__(self, reborn: float):
        self.reborn = reborn
        self._origins: dict[int, int] = {}  # of the tracks now there
        self._last: dict[int, Track] = {}  # a copy of each track when it was there last, by origin
        self._when: dict[int, float] = {}

    def step(self, tracks: list[Track], now: float) -> list[Track]:
        """Sets the origin of the tracks of a frame, and returns them."""
        for track in tracks:
            track.origin = self._origins.get(track.id, track.origin)
        there = {track.origin for track in tracks if track.id in self._origins}
        self._last = {o: t for o, t in self._last.items() if o in there or now - self._when[o] <= self.reborn}
        born = [track for track in tracks if track.id not in self._origins]
        pairs = sorted(
            (distance, track.id, origin)
            for track in born
            for origin, lost in self._last.items()
            if origin not in there and (distance := self._distance(lost, track, now)) <= 1
        )
        given: dict[int, int] = {}
        for _, number, origin in pairs:
            if number not in given and origin not in there:
                given[number] = origin
                there.add(origin)
        for track in tracks:
            track.origin = given.get(track.id, track.origin)
            self._last[track.origin] = replace(track)
            self._when[track.origin] = now
        self._when = {o: self._when[o] for o in self._last}
        self._origins = {t.id: o for o, t in self._last.items()}
        return tracks

    def _distance(self, lost: Track, track: Track, now: float) -> float:
        """How far a track is born from where another was lost, as a share of how far it may be."""
        if lost.label != track.label:
            return np.inf
        gap = now - self._when[lost.origin]
        ahead = lost.predicted(now)
        places = lost.foot, ((ahead[0] + ahead[2]) / 2, ahead[3])
        away = min(np.hypot(track.foot[0] - x, track.foot[1] - y) for x, y in places)
        return float(away / (max(lost.height, track.height, 1e-6) * (REACH + DRIFT * gap)))
