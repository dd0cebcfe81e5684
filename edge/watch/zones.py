"""Places in a camera's picture: polygons in which an object stands, and lines that it crosses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from edge.inference.fields import Fields
from edge.watch import reading
from edge.watch.tracker import Track

INERTIA = 3  # frames in a row: a box that trembles at the edge is no coming and going
MOST_POINTS = 100
POINT = "a point [x, y] in fractions of the frame, 0 to 1"

Point = tuple[float, float]


@dataclass(frozen=True)
class Zone:
    """A polygon in fractions of the frame. `flow` is the direction [x, y] in which one may go (y points down), of
    length 1; `metres` [width, height] is what the whole frame would measure at this place."""

    name: str
    camera: str
    polygon: tuple[Point, ...]
    flow: Point | None = None
    metres: Point | None = None
    inertia: int = INERTIA

    def contains(self, x: float, y: float) -> bool:
        """Whether a point lies inside, by the even-odd rule; a point on an edge of two zones is in one."""
        inside = False
        for (x0, y0), (x1, y1) in zip(self.polygon, self.polygon[1:] + self.polygon[:1]):  # noqa: B905 (Python 3.9)
            if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
                inside = not inside
        return inside


@dataclass(frozen=True)
class Line:
    """A line from `start` to `end`; going "in" crosses it from the left to the right of who walks along it."""

    name: str
    camera: str
    start: Point
    end: Point

    def crossed(self, before: Point, now: Point) -> str | None:
        """ "in" or "out" where the way between two points crosses the line, else None; a point on the line lies to its
        left, so that a way that ends on it and goes on is one crossing."""
        was, is_ = self.side(before), self.side(now)
        if was == is_:
            return None
        (x0, y0), (x1, y1) = before, now
        ends = [(x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) for x, y in (self.start, self.end)]
        if ends[0] * ends[1] > 0:  # both ends of the line lie on one side of the way
            return None
        return "in" if is_ else "out"

    def side(self, point: Point) -> bool:
        (ax, ay), (bx, by) = self.start, self.end
        return (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax) > 0  # y points down


@dataclass
class _Place:
    """Whether a track is in a zone, and how many frames in a row said otherwise."""

    inside: bool = False
    against: int = 0


@dataclass
class Occupancy:
    """Which tracks are in which zone of one camera, with the zone's inertia: `step(tracks)` takes those of a frame.

    A track's place is the bottom centre of its box; its origin, not its number, is what counts."""

    zones: tuple[Zone, ...]
    _places: dict[tuple[str, int], _Place] = field(default_factory=dict)

    def step(self, tracks: Iterable[Track]) -> dict[str, list[Track]]:
        tracks = list(tracks)
        origins = {track.origin for track in tracks}
        self._places = {key: place for key, place in self._places.items() if key[1] in origins}
        return {zone.name: [track for track in tracks if self._inside(zone, track)] for zone in self.zones}

    def _inside(self, zone: Zone, track: Track) -> bool:
        place = self._places.setdefault((zone.name, track.origin), _Place())
        if track.missed == 0:  # what was not seen has not moved
            place.against = place.against + 1 if zone.contains(*track.foot) != place.inside else 0
            if place.against >= zone.inertia:
                place.inside, place.against = not place.inside, 0
        return place.inside


def parse_zone(at: Fields, cameras: tuple[str, ...]) -> Zone:
    polygon = reading.items(at, "polygon", "a list of points [x, y]", lambda inner, i: reading.pair(inner, i, POINT))
    zone = Zone(
        name=reading.name(at, "name"),
        camera=camera(at, cameras),
        polygon=polygon,
        flow=at.maybe("flow", None, lambda key: _direction(at, key)),
        metres=at.maybe("metres", None, lambda key: _metres(at, key)),
        inertia=at.maybe("inertia", INERTIA, lambda key: at.whole(key, 1, 100)),
    )
    if not 3 <= len(polygon) <= MOST_POINTS:
        raise at.error("polygon", f"a list of 3 to {MOST_POINTS} points")
    x, y = np.array(polygon).T
    if abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2 < 1e-6:
        raise at.error("polygon", "a polygon that encloses an area")
    return zone


def parse_line(at: Fields, cameras: tuple[str, ...]) -> Line:
    ends = reading.pair(at, "from", POINT), reading.pair(at, "to", POINT)
    if ends[0] == ends[1]:
        raise at.error("to", "another point than from")
    return Line(reading.name(at, "name"), camera(at, cameras), *ends)


def camera(at: Fields, cameras: tuple[str, ...]) -> str:
    """The camera of a zone, line or sensor; of a site's only one it need not be said."""
    if "camera" not in at.values and len(cameras) == 1:
        return cameras[0]
    return reading.one_of(at, "camera", cameras, "a camera")


def _direction(at: Fields, key: str) -> Point:
    x, y = reading.pair(at, key, "a direction [x, y], y pointing down", -1e6, 1e6)
    length = float(np.hypot(x, y))
    if length < 1e-6:
        raise at.error(key, "a direction [x, y] that is not [0, 0]")
    return x / length, y / length


def _metres(at: Fields, key: str) -> Point:
    found = reading.pair(at, key, "[width, height] of the whole frame in metres", 0, 1e6)
    if not min(found) > 0:
        raise at.error(key, "[width, height] in metres, both above 0")
    return found
