"""One camera: frames in, events out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from edge.arrays import Image
from edge.errors import shown
from edge.event import LONGEST, UTC, Clip, Defect, Event, Example, Model, SeenObject, Sink
from edge.watch.context import Contexts, describe
from edge.watch.eyes import Eyes, contrast
from edge.watch.incidents import Incident, Incidents
from edge.watch.rule import Finding, Rule
from edge.watch.rules_motion import Loitering
from edge.watch.rules_state import zone_score, zone_type
from edge.watch.scene import Anomaly, Scene, Trails
from edge.watch.site import Camera, Site
from edge.watch.tracker import Track, Tracker
from edge.watch.zones import Occupancy

if TYPE_CHECKING:
    from edge.defects.catalogue import TypeVerdict

REBORN = 2.0  # seconds: so long an object may be hidden and still be the same
RECORDED = ("alert", "record")  # the actions that make a clip
MOST_LATENCIES = MOST_DISMISSED = 1000


class ClipRecorder(Protocol):
    """Keeps guarded frames, and makes a clip of those around an event. `after`: so many seconds after an event's end
    its clip ends."""

    after: float

    def add(self, camera: str, frame: Image, time: float) -> None: ...

    def begin(self, event: Event) -> None: ...

    def update(self, event: Event) -> None: ...

    def end(self, event: Event) -> Clip | None: ...


class Inputs:
    """What comes from outside while the cameras run, from any thread: sensors of the names that are known, and events
    that a person dismisses."""

    def __init__(self, known: tuple[str, ...] = ()) -> None:
        self.sensors = dict.fromkeys(known, False)
        self._readers: list[deque[str]] = []

    def set(self, sensor: str, on: bool) -> None:
        if sensor in self.sensors:
            self.sensors = {**self.sensors, sensor: on}

    def dismiss(self, event: str) -> None:
        for reader in self._readers:
            reader.append(event)

    def dismissed(self) -> deque[str]:
        """A queue of one reader's own, which gets the ids of the events that are dismissed from now on."""
        self._readers.append(deque(maxlen=MOST_DISMISSED))
        return self._readers[-1]


class Watcher:
    """`look(frame, seconds, when)` takes the guarded frames of one camera in their order and sends events; `close` ends
    those that are open. `counts` says what became of the frames."""

    def __init__(
        self,
        site: Site,
        camera: Camera,
        sink: Sink,
        recorder: ClipRecorder | None = None,
        inputs: Inputs | None = None,
        live: bool = True,
        seen: Callable[[Scene], None] | None = None,
    ):
        self.site, self.camera, self.sink, self.recorder = site, camera, sink, recorder
        self.inputs, self.live, self._seen = inputs or Inputs(), live, seen
        self.eyes, self.load = Eyes(site, camera), site.load.fresh()
        self.rules = site.rules_of(camera)
        grace = [rule.settings["grace"] for rule in self.rules if isinstance(rule, Loitering)]
        self.tracker = Tracker(reborn=max([REBORN, *grace]))
        self.zones = {name: zone for name, zone in site.zones.items() if zone.camera == camera.name}
        self.lines = {name: line for name, line in site.lines.items() if line.camera == camera.name}
        self._occupancy, self._trails = Occupancy(tuple(self.zones.values())), Trails()
        self.incidents = {rule.name: Incidents(rule.common.cycle, self._teller(rule)) for rule in self.rules}
        self.counts = {"frames": 0, "judged": 0, "spared": 0}
        self.events = {"new": 0, "update": 0, "end": 0}
        self.latencies: deque[float] = deque(maxlen=MOST_LATENCIES)  # seconds of work on each judged frame
        self._pending: list[tuple[float, Event]] = []  # ends that wait for the last frames of their clip
        self._dismissed = self.inputs.dismissed()
        self._before, self._started = 0.0, perf_counter()
        self._scene: Scene | None = None

    def look(self, frame: Image, seconds: float, when: datetime) -> None:
        start = perf_counter()
        self.counts["frames"] += 1
        step = self.load.now
        if self.recorder:
            self.recorder.add(self.camera.name, frame, seconds)
        self.eyes.keep(frame)
        self._flush(seconds)
        if self.eyes.due("objects", step.objects, seconds):
            self.counts["judged"] += 1
            self._judge(frame, seconds, when)
            self.latencies.append(perf_counter() - start)
        else:
            self.counts["spared"] += 1
        if self.live:
            # a guard may be slower than the camera: then there is more time than between its frames
            self.load.step(perf_counter() - start, max(seconds - self._before, start - self._started))
        self._before, self._started = seconds, start

    def close(self) -> None:
        """Ends what is open; clips get what there is of the time after."""
        for incidents in self.incidents.values():
            incidents.close(self._before)
        self._flush(float("inf"))

    def stats(self) -> dict[str, Any]:
        ordered = sorted(self.latencies)
        return {
            "frames": dict(self.counts),
            "looks": dict(self.eyes.counts),
            "events": dict(self.events),
            "refused": sum(incidents.refused for incidents in self.incidents.values()),
            "suppressed": sum(incidents.suppressed for incidents in self.incidents.values()),
            "latency_ms": {
                name: round(1000 * ordered[int(share * (len(ordered) - 1))], 1) if ordered else None
                for name, share in (("p50", 0.5), ("p95", 0.95))
            },
            "load": {"step": self.load.now.name, **self.load.counts},
        }

    def _judge(self, frame: Image, seconds: float, when: datetime) -> None:
        step = self.load.now
        self.eyes.watch(frame, seconds)
        tracks = self.tracker.step(self.eyes.objects(frame, step), seconds)
        anomaly, fresh = self.eyes.anomaly(frame, seconds, step)
        scene = Scene(
            camera=self.camera.name,
            seconds=seconds,
            when=when,
            aspect=frame.shape[1] / frame.shape[0],
            tracks=tuple(tracks),
            zones=self.zones,
            lines=self.lines,
            inside=self._occupancy.step(tracks),
            trails=self._trails.step(tracks, seconds),
            anomaly=anomaly,
            poses=self.eyes.poses(frame, tracks, seconds, step),
            sensors=self.inputs.sensors,
            contrast=contrast(frame),
            limits=self._limits(anomaly, when) if anomaly else {},
        )
        self._scene = scene
        self._apply(scene)
        if fresh and anomaly:
            self._learn(anomaly, when)
        if self._seen:
            self._seen(scene)

    def _apply(self, scene: Scene) -> None:
        while self._dismissed:
            event = self._dismissed.popleft()
            for incidents in self.incidents.values():
                incidents.dismiss(event, scene.seconds)
        for rule in self.rules:
            found = rule.find(scene)
            scene.flags[rule.name] = bool(found)
            if rule.common.action != "signal":
                self.incidents[rule.name].step(found, scene.seconds, scene.when)

    def _limits(self, anomaly: Anomaly, when: datetime) -> dict[str, float]:
        """The thresholds of this moment, of the frame and of each zone."""
        contexts = self.site.contexts
        return {
            name: contexts.threshold(anomaly.model, contexts.at(when, name), anomaly.threshold)
            for name in ("", *(self.zones if anomaly.by_map else ()))
        }

    def _learn(self, anomaly: Anomaly, when: datetime) -> None:
        """Takes the scores as normal ones, as long as nothing is reported of this camera."""
        contexts: Contexts = self.site.contexts
        if not contexts.learn or any(incidents.open for incidents in self.incidents.values()):
            return
        contexts.add(anomaly.model, contexts.at(when), anomaly.score)
        for name, zone in self.zones.items() if anomaly.by_map else ():
            contexts.add(anomaly.model, contexts.at(when, name), zone_score(anomaly, zone))

    def _teller(self, rule: Rule) -> Callable[[str, Incident], None]:
        return lambda phase, incident: self._tell(rule, phase, incident)

    def _tell(self, rule: Rule, phase: str, incident: Incident) -> None:
        event = self._event(rule, phase, incident)
        self.events[phase] += 1
        if self.recorder and rule.common.action in RECORDED:
            if phase == "new":
                self.recorder.begin(event)
            elif phase == "update":
                self.recorder.update(event)
            else:
                self._pending.append((incident.found + self.recorder.after, event))
                return
        self.sink.send(event)

    def _flush(self, seconds: float) -> None:
        """Sends the ends whose clips are complete."""
        for due, event in [pending for pending in self._pending if pending[0] <= seconds]:
            self._pending.remove((due, event))
            assert self.recorder is not None
            self.sink.send(replace(event, clip=self.recorder.end(event)))

    def _event(self, rule: Rule, phase: str, incident: Incident) -> Event:
        finding, anomaly = incident.finding, self._scene.anomaly if self._scene else None
        context = describe(self.site.contexts.at(incident.when, finding.zone or ""))
        ended = {"ended_by": incident.ended_by} if incident.ended_by else {}
        judged = anomaly if "anomaly" in rule.needs else None
        return Event(
            id=incident.id,
            phase=phase,
            device=self.site.device,
            camera=self.camera.name,
            rule=rule.name,
            kind=rule.kind,
            time=incident.when.astimezone(UTC),
            sequence=incident.sequence,
            zone=finding.zone,
            context={**context, "severity": incident.severity, "action": rule.common.action, **ended},
            objects=tuple(seen_object(track) for track in finding.tracks[:100]),
            score=finding.score,
            threshold=finding.threshold,
            model=Model(judged.model, judged.sha256) if judged else None,
            defect=self._defect(finding),
        )

    def _defect(self, finding: Finding) -> Defect | None:
        if finding.look is None:
            return None
        verdict = zone_type(finding.look, self.zones[finding.zone] if finding.zone else None)
        return defect(verdict) if verdict else None


def seen_object(track: Track) -> SeenObject:
    """A track as an event has it; what a box has outside of the frame is cut off."""
    left, top, right, bottom = (min(1.0, max(0.0, side)) for side in track.box)
    box = round(left, 5), round(top, 5), round(right - left, 5), round(bottom - top, 5)
    return SeenObject(track.label, box, round(min(1.0, max(0.0, track.score)), 4), track.origin)


def defect(verdict: TypeVerdict) -> Defect:
    """A verdict as an event has it; of a longer name its end tells more of a picture, its beginning of a type."""
    told = verdict.to_json()
    return Defect(
        type=told["type"][:LONGEST],
        votes={name[:LONGEST]: share for name, share in told["votes"].items()},
        distance=told["distance"],
        nearest=tuple(
            Example(near["type"][:LONGEST], shown(near["picture"])[-LONGEST:] or "?", near["distance"])
            for near in told["nearest"]
        ),
    )
