"""What all rules share: which objects, where and when; how long; what becomes of a finding."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, ClassVar, Generic, TypeVar

from edge.errors import ModelError
from edge.inference.fields import Fields
from edge.watch import reading
from edge.watch.scene import Anomaly, Scene
from edge.watch.schedule import WEEKDAYS, Hours, clock_hours
from edge.watch.tracker import Track
from edge.watch.zones import Line, Zone

K = TypeVar("K", bound=Hashable)

ACTIONS = ("alert", "record", "log", "signal")
MOST_SECONDS = 7 * 86400.0
OUTAGE = 5.0  # seconds without a frame: what was before is over
GAP = 1.0  # seconds: what holds may be missed so long
FRAME = ""  # the zone that is the whole frame


@dataclass(frozen=True)
class Finding:
    """Something that holds now. `key` tells it from others of its rule, and stays as long as it is the same. `look`:
    the anomaly that it is."""

    key: Hashable
    zone: str | None = None
    tracks: tuple[Track, ...] = ()
    score: float | None = None
    threshold: float | None = None
    look: Anomaly | None = None


@dataclass(frozen=True)
class Names:
    """What a rule of a site may refer to."""

    zone: tzinfo
    cameras: tuple[str, ...] = ()
    zones: dict[str, Zone] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)
    schedules: dict[str, Hours] = field(default_factory=dict)
    sensors: tuple[str, ...] = ()
    any_zone: bool = False  # there is no site: every name of a zone is taken


@dataclass(frozen=True)
class Times:
    """When a rule holds: in its own hours, in (`inside`) or out of (`outside`) a schedule, while a sensor says so."""

    own: Hours | None = None
    inside: Hours | None = None
    outside: Hours | None = None
    sensor: str | None = None
    sensor_is: bool = True

    def hold(self, scene: Scene) -> bool:
        if self.sensor is not None and scene.sensors.get(self.sensor, False) != self.sensor_is:
            return False
        if self.outside is not None and self.outside.active(scene.when):
            return False
        return all(hours is None or hours.active(scene.when) for hours in (self.own, self.inside))


@dataclass(frozen=True)
class Cycle:
    """The life of an event, in seconds: it ends when nothing was found for `end_after`, the same one is not reported
    again for `cooldown`, an `update` goes out so often, and it becomes an alarm after `escalate_after`."""

    end_after: float = 2.0
    cooldown: float = 10.0
    update: float = 10.0
    escalate_after: float | None = None
    dismissed: float = 600.0  # so long a person's "no" holds


@dataclass
class Common:
    """The fields that every rule has; those of its kind are its own."""

    name: str
    objects: tuple[str, ...] = ()  # none: any
    zones: tuple[str, ...] = ()  # none: the whole frame
    cameras: tuple[str, ...] = ()  # none: all
    times: Times = Times()
    action: str = "alert"
    cycle: Cycle = Cycle()


class Held(Generic[K]):
    """How long each of some things has held without a gap of more than `gap` seconds: `step(keys, now)`."""

    def __init__(self, gap: float = GAP):
        self.gap = gap
        self._since: dict[K, tuple[float, float]] = {}  # first and last time

    def step(self, keys: Iterable[K], now: float) -> dict[K, float]:
        """Seconds by key, of those that hold now, in their order: a replay reports the same every time."""
        holding = dict.fromkeys(keys)
        self._since = {key: times for key, times in self._since.items() if now - times[1] <= max(self.gap, OUTAGE)}
        for key in holding:
            self._since[key] = self._since.get(key, (now, now))[0], now
        late = [key for key, times in self._since.items() if key not in holding and now - times[1] > self.gap]
        for key in late:
            del self._since[key]
        return {key: now - self._since[key][0] for key in holding}


class Rule:
    """One rule over one camera: `look(scene)` gives what it finds in a frame, and keeps what it needs of those before.

    A kind is a subclass with `kind` and `own`, which reads the fields of its own; `fresh` makes one for a camera. It
    finds the same when the detector misses some boxes, and when tracks change numbers.
    """

    kind: ClassVar[str] = ""
    needs: frozenset[str] = frozenset()  # of "objects", "pose", "anomaly": what its camera must have
    cycle: ClassVar[Cycle] = Cycle()  # the default of this kind

    def __init__(self, common: Common, **settings: Any):
        self.common, self.settings = common, settings
        self._awake = False
        self._begin()

    def begin(self, **settings: Any) -> None:
        """Takes the settings of the kind, and sets what it keeps to nothing."""
        raise NotImplementedError

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        """The settings of the kind, from the rule's fields."""
        return {}

    def look(self, scene: Scene) -> list[Finding]:
        """What holds in a frame, at whatever time."""
        raise NotImplementedError

    def find(self, scene: Scene) -> list[Finding]:
        """What holds in a frame at a time of the rule; whenever that begins, the rule has seen nothing yet."""
        awake, self._awake = self._awake, self.common.times.hold(scene)
        if not self._awake:
            return []
        if not awake:
            self._begin()
        return self.look(scene)

    def _begin(self) -> None:
        self.held: Held[Any] = Held()
        self.begin(**self.settings)

    @property
    def name(self) -> str:
        return self.common.name

    def fresh(self) -> Rule:
        """The same rule that has seen nothing yet."""
        return type(self)(self.common, **self.settings)

    def places(self, scene: Scene) -> list[tuple[str, list[Track]]]:
        """Each zone of the rule (FRAME for the whole frame) with the rule's objects in it."""
        zones = [name for name in self.common.zones if name in scene.zones]
        if not self.common.zones:
            return [(FRAME, self.wanted(scene.tracks))]
        return [(name, self.wanted(scene.inside.get(name, ()))) for name in zones]

    def wanted(self, tracks: Sequence[Track]) -> list[Track]:
        objects = self.common.objects
        return [track for track in tracks if not objects or track.label in objects]


def parse_common(at: Fields, names: Names, kind: str, cycle: Cycle) -> Common:
    zones = at.maybe("zone", (), lambda key: _zones(at, key, names))
    times = Times(
        own=clock_hours(
            names.zone,
            at.maybe("time_after", None, lambda key: reading.clock(at, key, reading.DAY - 1)),
            at.maybe("time_before", None, lambda key: reading.clock(at, key)),
            at.maybe("days", None, lambda key: _days(at, key)),
        ),
        inside=at.maybe("schedule", None, lambda key: _schedule(at, key, names)),
        outside=at.maybe("outside", None, lambda key: _schedule(at, key, names)),
        sensor=at.maybe("sensor", None, lambda key: reading.one_of(at, key, names.sensors, "a sensor")),
        sensor_is=at.maybe("sensor_is", True, lambda key: reading.flag(at, key)),
    )
    if at.values.get("time_after") is not None and at.values.get("time_after") == at.values.get("time_before"):
        raise at.error("time_before", "another time than time_after")
    seconds = _seconds(at)
    return Common(
        name=at.maybe("name", " in ".join([kind, *zones[:1]]), lambda key: reading.name(at, key)),
        objects=at.maybe("object", (), lambda key: _objects(at, key)),
        zones=zones,
        cameras=_cameras(at, names, zones),
        times=times,
        action=at.maybe("action", "alert", lambda key: at.choice(key, *ACTIONS)),
        cycle=Cycle(
            end_after=at.maybe("end_after", cycle.end_after, seconds),
            cooldown=at.maybe("cooldown", cycle.cooldown, seconds),
            update=at.maybe("update", cycle.update, seconds),
            escalate_after=at.maybe("escalate_after", cycle.escalate_after, seconds),
            dismissed=at.maybe("dismissed", cycle.dismissed, seconds),
        ),
    )


def seconds(at: Fields, key: str, default: float) -> float:
    """A duration of at most a week."""
    return at.maybe(key, default, _seconds(at))


def _seconds(at: Fields) -> Callable[[str], float]:
    return lambda key: at.number(key, 0, high=MOST_SECONDS)


def _zones(at: Fields, key: str, names: Names) -> tuple[str, ...]:
    found = reading.names(at, key)
    if names.any_zone:
        return found
    for name in found:
        if name not in names.zones:
            raise at.error(key, "the name of a zone: " + (", ".join(names.zones) or "the site has none"))
    return found


def _cameras(at: Fields, names: Names, zones: tuple[str, ...]) -> tuple[str, ...]:
    """The cameras of a rule: those of its zones; it may name them where it has none."""
    found = at.maybe("camera", (), lambda key: reading.names(at, key))
    for name in found:
        if name not in names.cameras:
            raise at.error("camera", "the name of a camera: " + ", ".join(names.cameras))
    of_zones = {names.zones[zone].camera for zone in zones if zone in names.zones}
    if found and of_zones and set(found) != of_zones:
        raise at.error("camera", f"that of its zones ({', '.join(sorted(of_zones))}), or left out")
    return found or tuple(sorted(of_zones))


def _objects(at: Fields, key: str) -> tuple[str, ...]:
    return reading.names(at, key)


def _days(at: Fields, key: str) -> tuple[str, ...]:
    found = reading.items(at, key, f"a list of {', '.join(WEEKDAYS)}", lambda inner, i: inner.choice(i, *WEEKDAYS))
    if not found:
        raise at.error(key, f"a list of {', '.join(WEEKDAYS)}")
    return found


def _schedule(at: Fields, key: str, names: Names) -> Hours:
    return names.schedules[reading.one_of(at, key, names.schedules, "a schedule")]


def require_zone(at: Fields, common: Common, kind: str) -> None:
    """ModelError for a rule of a kind that makes no sense in the whole frame."""
    if not common.zones:
        raise ModelError(f"{at.path}: {at.prefix}zone: missing field; {kind} needs a zone")
