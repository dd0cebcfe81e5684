"""Synthetic scenes for the rules of `edge.watch`: objects on known ways, a detector that misses, tracks that change
numbers; and what a rule reports of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from edge.inference.fields import Fields
from edge.watch import rules
from edge.watch.incidents import Incidents
from edge.watch.rule import Names
from edge.watch.scene import Scene, Trails
from edge.watch.tracker import Detection, Tracker
from edge.watch.zones import Line, Occupancy, Zone

FPS = 10
START = datetime(2026, 6, 3, 12, 0, tzinfo=UTC)  # a Wednesday
ZONES = {
    "left": Zone("left", "cam", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)), flow=(1.0, 0.0), metres=(10.0, 10.0)),
    "right": Zone("right", "cam", ((0.5, 0), (1, 0), (1, 1), (0.5, 1))),
    "exit": Zone("exit", "cam", ((0.8, 0), (1, 0), (1, 1), (0.8, 1))),
    "till": Zone("till", "cam", ((0.5, 0.5), (0.75, 0.5), (0.75, 1), (0.5, 1))),
}
LINES = {"door": Line("door", "cam", (0.5, 1.0), (0.5, 0.0))}  # going right is "in"
NAMES = Names(UTC, ("cam",), ZONES, LINES, {}, ("door open",))


class Actor:
    """An object that goes from point to point: [(seconds, x, y), ...] of its foot; it is there between the first and
    the last."""

    def __init__(self, way, label="person", height=0.2, width=0.08):
        self.way, self.label, self.height, self.width = np.array(way, float), label, height, width

    def at(self, t):
        """The foot, None where the object is not there."""
        if not self.way[0, 0] <= t <= self.way[-1, 0]:
            return None
        return np.interp(t, self.way[:, 0], self.way[:, 1]), np.interp(t, self.way[:, 0], self.way[:, 2])

    def box(self, t):
        x, y = self.at(t)
        return x - self.width / 2, y - self.height, x + self.width / 2, y


def rule(**fields):
    """The rule that these fields of a site.json make."""
    return Fields(Path("site.json"), fields).parsed(lambda at: rules.parse(at, NAMES))


def play(actors, the_rule, seconds, missed=0.0, switches=0.0, seed=0, start=START, noise=0.002, **more):
    """The events of a rule over a scene: [(key, start, end)], by the new and the end message.

    `missed` is the share of boxes that the detector doesn't give, `switches` how often a second a track is torn off and
    goes on as another one. `more` are fields of the scenes, or functions of the time that give them."""
    rng = np.random.default_rng(seed)
    tracker, occupancy, trails = Tracker(reborn=5.0), Occupancy(tuple(ZONES.values())), Trails()
    events: dict[str, list] = {}

    def tell(phase, incident):
        if phase == "new":
            events[incident.id] = [incident.finding.key, incident.began, None]
        elif phase == "end":
            events[incident.id][2] = incident.found

    incidents = Incidents(the_rule.common.cycle, tell)
    for frame in range(int(seconds * FPS)):
        t = frame / FPS
        boxes = [
            Detection(actor.label, 0.9, tuple(np.add(actor.box(t), rng.normal(0, noise, 4))))
            for actor in actors
            if actor.at(t) is not None and rng.random() >= missed
        ]
        if switches and tracker._tracks and rng.random() < switches / FPS:
            tracker._tracks.pop(rng.integers(len(tracker._tracks)))
        tracks = tracker.step(boxes, t)
        scene = Scene(
            camera="cam",
            seconds=t,
            when=start + timedelta(seconds=t),
            tracks=tuple(tracks),
            zones=ZONES,
            lines=LINES,
            inside=occupancy.step(tracks),
            trails=trails.step(tracks, t),
            **{key: value(t) if callable(value) else value for key, value in more.items()},
        )
        incidents.step(the_rule.find(scene), t, scene.when)
    incidents.close(seconds)
    return [tuple(event) for event in events.values()]


def matches(events, truth, slack=1.5):
    """Precision and recall of events against [(start, end), ...]: each true interval is met by exactly one event, whose
    start and end are right to `slack` seconds."""
    left, hits = [(start, end) for _, start, end in events], 0
    for start, end in truth:
        for found in left:
            if abs(found[0] - start) <= slack and abs(found[1] - end) <= slack:
                left.remove(found)
                hits += 1
                break
    return hits / max(1, len(events)), hits / max(1, len(truth))
