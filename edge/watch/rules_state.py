"""Rules about a person's posture, the anomaly score, the camera, the sensors, and about other rules."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np

from edge.arrays import Mask
from edge.defects import region
from edge.errors import ModelError
from edge.inference.fields import Fields
from edge.watch import reading
from edge.watch.rule import Common, Cycle, Finding, Names, Rule, seconds
from edge.watch.scene import Anomaly as Look
from edge.watch.scene import Scene
from edge.watch.zones import Zone

if TYPE_CHECKING:
    from edge.defects.catalogue import TypeVerdict

LONGEST_FALL = 2.0  # seconds: who takes longer lies down


@dataclass
class _Body:
    """What was seen of one person: the torso's middle and length in the last two seconds; since when it has been lying
    after a fall, and when it was seen last."""

    before: deque[tuple[float, float, float]] = field(default_factory=deque)  # seconds, y, length
    lying: float | None = None
    seen: float = -math.inf


class Fall(Rule):
    """A person lies, the torso leaning `angle` degrees or more, whose torso was higher by `drop` of its lengths two
    seconds ago or less, and stays so for `seconds`. Needs a camera with a pose model.

    Bending lowers the middle of the torso by less than half its length, and so does lying down from sitting; falling
    out of bed by about one length, from standing by more. Throwing oneself onto a bed is a fall, too."""

    kind = "fall"
    needs = frozenset({"objects", "pose"})
    cycle: ClassVar[Cycle] = Cycle(end_after=5.0, escalate_after=30.0)

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        return {
            "angle": at.maybe("angle", 60.0, lambda key: at.number(key, 30, high=90)),
            "drop": at.maybe("drop", 0.75, lambda key: at.number(key, 0, high=5)),
            "seconds": seconds(at, "seconds", 1.0),
        }

    def begin(self, **settings: Any) -> None:
        self.angle, self.drop, self.seconds = settings["angle"], settings["drop"], settings["seconds"]
        self._bodies: dict[int, _Body] = {}

    def look(self, scene: Scene) -> list[Finding]:
        found, now = [], scene.seconds
        for zone, tracks in self.places(scene):
            for track in tracks:
                pose = scene.poses.get(track.origin)
                body = self._bodies.setdefault(track.origin, _Body())
                if pose is not None and pose.torso is not None and pose.angle is not None:
                    self._see(body, pose.torso, pose.angle, now)
                if body.lying is not None and body.seen - body.lying >= self.seconds:
                    found.append(Finding((zone, track.origin), zone or None, (track,)))
        there = {track.origin for track in scene.tracks}
        self._bodies = {o: body for o, body in self._bodies.items() if o in there or now - body.seen <= 10}
        return found

    def _see(self, body: _Body, torso: tuple[Any, Any], angle: float, now: float) -> None:
        if body.seen == now:  # it is in two zones
            return
        shoulders, hips = torso
        middle, length = float(shoulders[1] + hips[1]) / 2, float(np.hypot(*(shoulders - hips)))
        while body.before and now - body.before[0][0] > LONGEST_FALL:
            body.before.popleft()
        if angle < self.angle:
            body.lying = None
        elif body.lying is None:
            longest = max([length, *(was for _, _, was in body.before)])  # seen from the front a torso is short
            highest = min((y for _, y, _ in body.before), default=middle)
            body.lying = now if middle - highest >= self.drop * longest else None
        body.before.append((now, middle, length))
        body.seen = now


class AnomalyRule(Rule):
    """The camera's anomaly model gives a score above its threshold, of the whole frame or of each zone: what the model
    says, `threshold`, or what was learned of this context."""

    kind = "anomaly"
    needs = frozenset({"anomaly"})

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        return {
            "threshold": at.maybe("threshold", None, lambda key: at.number(key)),
            "seconds": seconds(at, "seconds", 0.0),
        }

    def begin(self, **settings: Any) -> None:
        self.threshold, self.seconds = settings["threshold"], settings["seconds"]

    def look(self, scene: Scene) -> list[Finding]:
        if scene.anomaly is None:
            return []
        above: dict[str, tuple[float, float]] = {}
        for name in self.common.zones or ("",):
            if name and name not in scene.zones:
                continue
            score = zone_score(scene.anomaly, scene.zones[name] if name else None)
            limit = self.threshold
            if limit is None:
                limit = scene.limits.get(name, scene.anomaly.threshold)
            if score > limit:
                above[name] = score, limit
        lasting = self.held.step(above, scene.seconds)
        lasting = {name: time for name, time in lasting.items() if time >= self.seconds}
        return [Finding(name, name or None, (), *above[name], scene.anomaly) for name in lasting]


def zone_score(look: Look, zone: Zone | None) -> float:
    """The score of a zone: the largest value of the map in it; without one that of the frame."""
    if zone is None:
        return look.score
    mask = zone_mask(zone, *look.map.shape)
    return float(look.map[mask].max()) if mask.any() else -math.inf


def zone_type(look: Look, zone: Zone | None) -> TypeVerdict | None:
    """What kind of defect it is, of what stands out in a zone or in the frame; None without a catalogue of types."""
    prediction = look.prediction
    if prediction is None or prediction.types is None:
        return None
    map = prediction.raw_map
    if zone is not None:  # elsewhere nothing stands out
        map = np.where(zone_mask(zone, *map.shape), map, np.median(map))
    return prediction.types.type_of(prediction, region.found(map, prediction.types.rules.pooling))


def zone_mask(zone: Zone, height: int, width: int) -> Mask:
    """The pixels of a map [height, width] that a zone touches."""
    points = np.array(zone.polygon) * (width, height) - 0.5
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 1, shift=4)
    return mask > 0


class Covered(Rule):
    """The picture has hardly any contrast for `seconds`: the camera is covered, blinded or broken."""

    kind = "camera_covered"

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        return {
            "contrast": at.maybe("contrast", 8.0, lambda key: at.number(key, 0, high=128)),
            "seconds": seconds(at, "seconds", 3.0),
        }

    def begin(self, **settings: Any) -> None:
        self.contrast, self.seconds = settings["contrast"], settings["seconds"]

    def look(self, scene: Scene) -> list[Finding]:
        dark = scene.contrast is not None and scene.contrast < self.contrast
        lasting = self.held.step([""] if dark else [], scene.seconds)
        return [Finding("") for time in lasting.values() if time >= self.seconds]


class Sensor(Rule):
    """A sensor says so for `seconds`: which one is `sensor`, as of every rule."""

    kind = "sensor"

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        if common.times.sensor is None:
            raise ModelError(f"{at.path}: {at.prefix}sensor: missing field; this rule is about a sensor")
        return {"seconds": seconds(at, "seconds", 0.0)}

    def begin(self, **settings: Any) -> None:
        self.seconds = settings["seconds"]
        self.held.gap = 0.0

    def look(self, scene: Scene) -> list[Finding]:
        on = scene.sensors.get(self.common.times.sensor or "", False) == self.common.times.sensor_is
        lasting = self.held.step([""] if on else [], scene.seconds)
        return [Finding("") for time in lasting.values() if time >= self.seconds]


@dataclass(frozen=True)
class Signal:
    """What another rule adds to a hybrid one: its weight, or what it does alone."""

    rule: str
    weight: float = 0.0
    boost: float = 1.0
    override: bool = False


class Hybrid(Rule):
    """A weighted sum of the normalised anomaly score (`anomaly` is its weight; 0.5 at the threshold, 1 at twice that)
    and of what other rules find (`signals`) reaches `threshold`. A signal with `boost` multiplies the sum, one with
    `override` makes it 1, whatever the others say."""

    kind = "hybrid"

    @classmethod
    def own(cls, at: Fields, names: Names, common: Common) -> dict[str, Any]:
        found: dict[str, Any] = {
            "anomaly": at.maybe("anomaly", 0.0, lambda key: at.number(key, 0, high=1)),
            "signals": at.objects("signals", _signal),
            "threshold": at.maybe("threshold", 0.5, lambda key: at.number(key, 0, open_low=True, high=1)),
            "seconds": seconds(at, "seconds", 0.0),
        }
        if not found["signals"]:
            raise at.error("signals", "a list of at least one object")
        total = found["anomaly"] + sum(signal.weight for signal in found["signals"])
        if total > 1 + 1e-9:
            raise at.error("signals", f"such that its weights and anomaly add up to 1 at most, not {total:g}")
        return found

    def begin(self, **settings: Any) -> None:
        self.weight, self.signals = settings["anomaly"], settings["signals"]
        self.threshold, self.seconds = settings["threshold"], settings["seconds"]
        if self.weight:
            self.needs = frozenset({"anomaly"})

    def look(self, scene: Scene) -> list[Finding]:
        score = self.score(scene)
        # what adds up to the threshold reaches it, however floating point rounds
        lasting = self.held.step([""] if score >= self.threshold - 1e-9 else [], scene.seconds)
        places = self.common.zones[0] if len(self.common.zones) == 1 else None
        found = [time for time in lasting.values() if time >= self.seconds]
        tracks = tuple(track for _, tracks in self.places(scene) for track in tracks) if self.common.zones else ()
        return [Finding("", places, tracks, score, self.threshold) for _ in found]

    def score(self, scene: Scene) -> float:
        """The sum, from 0 to 1."""
        active = [signal for signal in self.signals if scene.flags.get(signal.rule, False)]
        if any(signal.override for signal in active):
            return 1.0
        total = self.weight * normalised(scene.anomaly) + sum(signal.weight for signal in active)
        return float(min(1.0, total * math.prod(signal.boost for signal in active)))


def normalised(look: Look | None) -> float:
    """An anomaly score as a number from 0 to 1: 0.5 at its threshold, 1 at twice the threshold and above."""
    if look is None:
        return 0.0
    if look.threshold <= 0:
        return float(look.score > look.threshold)
    return min(1.0, max(0.0, look.score / look.threshold / 2))


def _signal(at: Fields) -> Signal:
    kinds = [key for key in ("weight", "boost", "override") if at.values.get(key) is not None]
    if len(kinds) != 1:
        raise ModelError(f"{at.path}: {at.prefix}weight: one of weight, boost and override must be given")
    return Signal(
        rule=reading.name(at, "rule"),
        weight=at.maybe("weight", 0.0, lambda key: at.number(key, 0, high=1)),
        boost=at.maybe("boost", 1.0, lambda key: at.number(key, 1, high=10)),
        override=at.maybe("override", False, lambda key: at.choice(key, True)),
    )
