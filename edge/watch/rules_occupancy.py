"""Rules about how many objects are in a zone: presence, absence, count, crowding."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, ClassVar

from edge.errors import ModelError
from edge.inference.fields import Fields
from edge.watch.rule import Common, Cycle, Finding, Names, Rule, seconds
from edge.watch.scene import Scene
from edge.watch.tracker import Track

MOST_OBJECTS = 1000
BOUNDS: dict[str, Callable[[int, int], bool]] = {
    "at_least": operator.ge,
    "at_most": operator.le,
    "exactly": operator.eq,
}


class Occupied(Rule):
    """A rule about the objects in each of its zones, which holds for `seconds` before it is found."""

    seconds: float = 0.0

    def holds(self, tracks: list[Track], scene: Scene) -> tuple[Track, ...] | None:
        """The tracks that make the rule hold in a zone, None where it doesn't."""
        raise NotImplementedError

    def look(self, scene: Scene) -> list[Finding]:
        found = {zone: self.holds(tracks, scene) for zone, tracks in self.places(scene)}
        lasting = self.held.step([zone for zone, tracks in found.items() if tracks is not None], scene.seconds)
        return [
            Finding(zone, zone or None, found[zone] or ()) for zone, time in lasting.items() if time >= self.seconds
        ]


class Presence(Occupied):
    """An object is in the zone."""

    kind = "presence"
    needs = frozenset({"objects"})

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        return {"seconds": seconds(at, "seconds", 0.0)}

    def begin(self, **settings: Any) -> None:
        self.seconds = settings["seconds"]

    def holds(self, tracks: list[Track], scene: Scene) -> tuple[Track, ...] | None:
        return tuple(tracks) or None


class Absence(Presence):
    """No object is in the zone: a post is not manned, a thing was taken away."""

    kind = "absence"

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        return {"seconds": seconds(at, "seconds", 5.0)}

    def begin(self, **settings: Any) -> None:
        super().begin(**settings)
        self.held.gap = 0.0  # an object that is there for one frame was there

    def holds(self, tracks: list[Track], scene: Scene) -> tuple[Track, ...] | None:
        return None if tracks else ()


class Count(Occupied):
    """There are at least, at most or exactly so many objects in the zone."""

    kind = "count"
    needs = frozenset({"objects"})

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        given = [key for key in BOUNDS if at.values.get(key) is not None]
        if len(given) != 1:
            where = f"{at.path}: {at.prefix}{given[1] if given else 'at_least'}"
            raise ModelError(f"{where}: one of {', '.join(BOUNDS)} must be given")
        bound = at.whole(given[0], 0 if given[0] != "at_least" else 1, MOST_OBJECTS)
        for key in BOUNDS:
            at.maybe(key, None, lambda _: None)
        return {"bound": given[0], "number": bound, "seconds": seconds(at, "seconds", 1.0)}

    def begin(self, **settings: Any) -> None:
        self.seconds, self.number = settings["seconds"], settings["number"]
        self.compare = BOUNDS[settings["bound"]]

    def holds(self, tracks: list[Track], scene: Scene) -> tuple[Track, ...] | None:
        return tuple(tracks) if self.compare(len(tracks), self.number) else None


class Crowding(Occupied):
    """At least so many objects stand together, each within `within` of its own heights of another one."""

    kind = "crowding"
    needs = frozenset({"objects"})
    cycle: ClassVar[Cycle] = Cycle(end_after=3.0)

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        return {
            "number": at.maybe("at_least", 4, lambda key: at.whole(key, 2, MOST_OBJECTS)),
            "within": at.maybe("within", 1.0, lambda key: at.number(key, 0, open_low=True, high=100)),
            "seconds": seconds(at, "seconds", 3.0),
        }

    def begin(self, **settings: Any) -> None:
        self.number, self.within, self.seconds = settings["number"], settings["within"], settings["seconds"]

    def holds(self, tracks: list[Track], scene: Scene) -> tuple[Track, ...] | None:
        largest: list[Track] = max(self._groups(tracks, scene.aspect), key=len, default=[])
        return tuple(largest) if len(largest) >= self.number else None

    def _groups(self, tracks: list[Track], aspect: float) -> list[list[Track]]:
        """The tracks in groups, in which there is a way from each to each over neighbours."""
        rest, groups = list(tracks), []
        while rest:
            group, edge = [], [rest.pop()]
            while edge:
                at = edge.pop()
                group.append(at)
                edge += [track for track in rest if self._near(at, track, aspect)]
                rest = [track for track in rest if track not in edge]
            groups.append(group)
        return groups

    def _near(self, a: Track, b: Track, aspect: float) -> bool:
        away = (a.foot[0] - b.foot[0]) * aspect, a.foot[1] - b.foot[1]
        reach = self.within * (a.height + b.height) / 2
        return bool(away[0] ** 2 + away[1] ** 2 <= reach**2)
