"""Rules about how objects move: loitering, against_flow, speed, line, route."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from edge.errors import ModelError
from edge.inference.fields import Fields
from edge.watch import reading
from edge.watch.rule import MOST_SECONDS, Common, Cycle, Finding, Names, Rule, require_zone, seconds
from edge.watch.scene import Scene
from edge.watch.tracker import Track

SLOW = 0.15  # body heights a second: slower is standing
MOMENT = Cycle(end_after=1.0, cooldown=0.0)  # of what happens in an instant


@dataclass
class _Dwell:
    """How long an object was in a zone, when it was there last, and when it was looked at."""

    total: float
    inside: float
    looked: float


class Loitering(Rule):
    """An object stays in the zone for `seconds`, a number or one for each class; out of it for `grace` at most, its
    time goes on when it comes back, also under another number."""

    kind = "loitering"
    needs = frozenset({"objects"})
    cycle: ClassVar[Cycle] = Cycle(end_after=3.0)

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        limits: dict[str, float] = {}
        if isinstance(at.values.get("seconds"), dict):
            limits = at.object("seconds", _limits)
            if not limits or (common.objects and set(limits) != set(common.objects)):
                raise at.error("seconds", "a number, or one for each object: " + ", ".join(common.objects))
        else:
            limits[""] = seconds(at, "seconds", 30.0)
        return {"limits": limits, "grace": seconds(at, "grace", 5.0)}

    def begin(self, **settings: Any) -> None:
        self.limits, self.grace = settings["limits"], settings["grace"]
        self._dwells: dict[tuple[str, int], _Dwell] = {}

    def look(self, scene: Scene) -> list[Finding]:
        found = []
        for zone, tracks in self.places(scene):
            for track in tracks:
                limit = self.limits.get(track.label, self.limits.get(""))
                if limit is not None and self._dwell(zone, track, scene.seconds) >= limit:
                    found.append(Finding((zone, track.origin), zone or None, (track,)))
        for key, dwell in list(self._dwells.items()):
            if scene.seconds - dwell.inside > self.grace:
                del self._dwells[key]
        return found

    def _dwell(self, zone: str, track: Track, now: float) -> float:
        """Seconds that it was in the zone, those included in which it was out or hidden for no longer than `grace`."""
        dwell = self._dwells.setdefault((zone, track.origin), _Dwell(0.0, now, now))
        if now - dwell.inside <= self.grace:
            dwell.total += now - dwell.inside
        else:
            dwell.total = 0.0
        dwell.inside = now
        return dwell.total


def _limits(at: Fields) -> dict[str, float]:
    return {key: at.number(key, 0, high=MOST_SECONDS) for key in at.mapping()}


class AgainstFlow(Rule):
    """An object goes against the zone's `flow`, within `angle` degrees of its opposite, for `seconds`."""

    kind = "against_flow"
    needs = frozenset({"objects"})

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        require_zone(at, common, cls.kind)
        for zone in common.zones:
            if zone in names.zones and names.zones[zone].flow is None:
                raise at.error("zone", "a zone with a flow")
        return {
            "angle": at.maybe("angle", 60.0, lambda key: at.number(key, 1, high=90)),
            "slowest": at.maybe("slowest", SLOW, lambda key: at.number(key, 0, high=100)),
            "seconds": seconds(at, "seconds", 1.0),
        }

    def begin(self, **settings: Any) -> None:
        self.slowest, self.seconds = settings["slowest"], settings["seconds"]
        self.least = math.cos(math.radians(settings["angle"]))

    def look(self, scene: Scene) -> list[Finding]:
        against: dict[tuple[str, int], tuple[str, Track]] = {}
        for zone, tracks in self.places(scene):
            flow = scene.zones[zone].flow
            assert flow is not None  # `own` has looked
            for track in tracks:
                if self._against(track, scene, flow):
                    against[zone, track.origin] = zone, track
        lasting = self.held.step(against, scene.seconds)
        return [Finding(k, against[k][0], (against[k][1],)) for k, time in lasting.items() if time >= self.seconds]

    def _against(self, track: Track, scene: Scene, flow: tuple[float, float]) -> bool:
        scale = (scene.aspect, 1.0)
        velocity = scene.velocity(track, 1.0, scale)
        if velocity is None:
            return False
        speed, flow = math.hypot(*velocity), (flow[0] * scale[0], flow[1])
        along = velocity[0] * flow[0] + velocity[1] * flow[1]
        return speed > self.slowest * track.height and -along >= self.least * speed * math.hypot(*flow)


class Speed(Rule):
    """An object is faster than so many `metres_per_second` (in zones that have `metres`) or `heights_per_second` (of
    the frame), measured over half a second or more."""

    kind = "speed"
    needs = frozenset({"objects"})

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        units = [key for key in ("metres_per_second", "heights_per_second") if at.values.get(key) is not None]
        if len(units) != 1:
            where = f"{at.path}: {at.prefix}{units[1] if units else 'metres_per_second'}"
            raise ModelError(f"{where}: one of metres_per_second and heights_per_second must be given")
        if units[0] == "metres_per_second":
            require_zone(at, common, "a speed in metres_per_second")
            for zone in common.zones:
                if zone in names.zones and names.zones[zone].metres is None:
                    raise at.error("zone", "a zone with metres, where metres_per_second is given")
        for key in ("metres_per_second", "heights_per_second"):
            at.maybe(key, None, lambda _: None)
        limit = at.number(units[0], 0, open_low=True, high=1e4)
        return {"metric": units[0] == "metres_per_second", "limit": limit, "seconds": seconds(at, "seconds", 0.3)}

    def begin(self, **settings: Any) -> None:
        self.metric, self.limit, self.seconds = settings["metric"], settings["limit"], settings["seconds"]

    def look(self, scene: Scene) -> list[Finding]:
        fast: dict[tuple[str, int], Finding] = {}
        for zone, tracks in self.places(scene):
            scale = (scene.zones[zone].metres if self.metric else None) or (scene.aspect, 1.0)
            for track in tracks:
                velocity = scene.velocity(track, 0.6, scale)
                if velocity is not None and (speed := math.hypot(*velocity)) > self.limit:
                    key = zone, track.origin
                    fast[key] = Finding(key, zone or None, (track,), speed, self.limit)
        lasting = self.held.step(fast, scene.seconds)
        return [fast[key] for key, time in lasting.items() if time >= self.seconds]


class LineCrossing(Rule):
    """An object's foot crosses a line in a `direction` (in, out, any) and is seen `steady` times on the other side."""

    kind = "line"
    needs = frozenset({"objects"})
    cycle: ClassVar[Cycle] = MOMENT

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        if names.any_zone:
            line = reading.name(at, "line")
        else:
            line = reading.one_of(at, "line", names.lines, "a line")
            common.cameras = common.cameras or (names.lines[line].camera,)
            if common.cameras != (names.lines[line].camera,):
                raise at.error("line", "a line of the camera of its zones")
        return {
            "line": line,
            "direction": at.maybe("direction", "any", lambda key: at.choice(key, "in", "out", "any")),
            "steady": at.maybe("steady", 2, lambda key: at.whole(key, 1, 100)),
        }

    def begin(self, **settings: Any) -> None:
        self.line, self.direction, self.steady = settings["line"], settings["direction"], settings["steady"]
        self._sides: dict[
            int, tuple[tuple[float, float], int]
        ] = {}  # where it was last on its side; times on the other
        self._count = 0

    def look(self, scene: Scene) -> list[Finding]:
        line, found = scene.lines.get(self.line), []
        zones = {track.origin for _, tracks in self.places(scene) for track in tracks}
        tracks = self.wanted(scene.tracks)
        for track in tracks:
            if line is None or track.missed:
                continue
            before, times = self._sides.get(track.origin, (track.foot, 0))
            times = times + 1 if line.side(before) != line.side(track.foot) else 0
            if 0 < times < self.steady:
                self._sides[track.origin] = before, times
                continue
            self._sides[track.origin] = track.foot, 0
            way = line.crossed(before, track.foot)
            if way and self.direction in ("any", way) and track.origin in zones:
                self._count += 1
                found.append(Finding((track.origin, self._count), None, (track,)))
        there = {track.origin for track in scene.tracks} | set(scene.trails)
        self._sides = {origin: side for origin, side in self._sides.items() if origin in there}
        return found


class Route(Rule):
    """An object that was in the zone `start` comes into the rule's zone without having been in `via` for as long as it
    is followed: out of the shop, from a shelf, past the checkout."""

    kind = "route"
    needs = frozenset({"objects"})
    cycle: ClassVar[Cycle] = Cycle(end_after=2.0, cooldown=0.0)

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        require_zone(at, common, cls.kind)
        found = {"start": reading.name(at, "start"), "via": reading.name(at, "via")}
        for key, zone in found.items():
            if not names.any_zone:
                reading.one_of(at, key, names.zones, "a zone")
                if {names.zones[zone].camera} != set(common.cameras):
                    raise at.error(key, "a zone of the same camera")
            if zone in common.zones:
                raise at.error(key, "another zone than the rule's own")
        if found["start"] == found["via"]:
            raise at.error("via", "another zone than start")
        return {**found, "start_seconds": seconds(at, "start_seconds", 0.0)}

    def begin(self, **settings: Any) -> None:
        self.start, self.via, self.start_seconds = settings["start"], settings["via"], settings["start_seconds"]
        self._started: set[int] = set()
        self._paid: set[int] = set()
        self._gone: dict[int, float] = {}

    def look(self, scene: Scene) -> list[Finding]:
        at_start = {track.origin for track in self.wanted(scene.inside.get(self.start, ()))}
        lasting = self.held.step(at_start, scene.seconds)
        self._started |= {origin for origin, time in lasting.items() if time >= self.start_seconds}
        self._paid |= {track.origin for track in self.wanted(scene.inside.get(self.via, ()))}
        found = [
            Finding((zone, track.origin), zone, (track,))
            for zone, tracks in self.places(scene)
            for track in tracks
            if track.origin in self._started - self._paid
        ]
        self._forget(scene)
        return found

    def _forget(self, scene: Scene) -> None:
        """What is not there for a minute does not come back under its old number."""
        self._gone.update({track.origin: scene.seconds for track in scene.tracks})
        self._gone = {origin: last for origin, last in self._gone.items() if scene.seconds - last <= 60}
        self._started &= set(self._gone)
        self._paid &= set(self._gone)
