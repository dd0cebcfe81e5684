"""Every rule on synthetic scenes of exact truth: precision and recall 1.0, also with a detector that misses one box in
ten, and with tracks that change their numbers, where the rule says that it bears them."""

import numpy as np
import pytest
from scenes import FPS, Actor, matches, play, rule

from edge.watch.pose import Pose
from edge.watch.rules import KINDS
from edge.watch.scene import Anomaly

pytestmark = pytest.mark.slow


def pose(degrees, hip=(0.5, 0.6), length=0.15):
    """A torso that leans to the right."""
    points = np.zeros((17, 3))
    angle = np.radians(degrees)
    shoulder = hip[0] + length * np.sin(angle), hip[1] - length * np.cos(angle)
    for i in (5, 6):
        points[i] = (*shoulder, 0.9)
    for i in (11, 12):
        points[i] = (*hip, 0.9)
    return Pose(points)


def falls(t):
    """Stands, bends at 5 s for four seconds, lies down slowly at 20 s and up at 30 s, falls at 40 s and stays."""
    if 5 <= t < 9:
        return {1: pose(80, (0.5, 0.6))}
    if 20 <= t < 30:
        return {1: pose(min(88, (t - 20) * 8), (0.5, 0.6 + min(0.1, (t - 20) * 0.01)))}
    if t >= 40:
        return {1: pose(min(85, (t - 40) * 120), (0.5, min(0.75, 0.6 + (t - 40) * 0.2)))}
    return {1: pose(3)}


def poses(of):
    """The poses of the only person, whatever number the track has."""

    class Only(dict):
        def get(self, key, default=None):
            return of["pose"]

    def at(t):
        of["pose"] = falls(t)[1]
        return Only()

    return at


def look(t):
    """An anomaly in the left half at 10 to 15 s, and one in the right half at 30 to 40 s."""
    map = np.full((8, 8), 0.1, np.float32)
    if 10 <= t < 15:
        map[2:4, 1:3] = 3
    if 30 <= t < 40:
        map[2:4, 5:7] = 2
    return Anomaly(float(map.max()), 1.0, map)


PASSING = Actor([(2, -0.05, 0.5), (14, 1.05, 0.5)])  # left to right; crosses 0.5 at 8 s
BACK = Actor([(20, 1.05, 0.8), (32, -0.05, 0.8)])
STANDING = Actor([(5, 0.2, 0.95), (60, 0.21, 0.95)])
SHORT = Actor([(10, 0.3, 0.8), (18, 0.3, 0.82)])
CROWD = [Actor([(10 + i, 0.6 + 0.08 * i, 0.6), (40, 0.6 + 0.08 * i, 0.6)]) for i in range(4)]
FAR = [Actor([(60, 0.1 + 0.25 * i, 0.3 + 0.2 * (i % 2)), (80, 0.1 + 0.25 * i, 0.3 + 0.2 * (i % 2))]) for i in range(4)]
RUNNING = Actor([(30, 0.02, 0.3), (31.6, 0.5, 0.3)])  # 3 m/s in a zone that measures 10 m
WALKING = Actor([(2, 0.02, 0.6), (8, 0.48, 0.6)])  # 0.77 m/s
THIEF = Actor([(2, 0.2, 0.8), (8, 0.2, 0.8), (12, 0.7, 0.3), (15, 1.02, 0.3)])  # past the till
BUYER = Actor([(22, 0.2, 0.8), (28, 0.2, 0.8), (32, 0.6, 0.8), (36, 0.6, 0.8), (40, 1.02, 0.8)])
# hidden for two seconds, a little away when seen again
HIDDEN = [Actor([(2, 0.2, 0.5), (12, 0.2, 0.5)]), Actor([(14, 0.23, 0.52), (30, 0.24, 0.5)])]

CASES = {  # name: (fields of the rule, actors, seconds, fields of the scenes, truth as intervals)
    "presence": ({"zone": "right"}, [PASSING, BACK], 40, {}, [(8, 13.5), (20.5, 26)]),
    "presence of a class": (
        {"zone": "right", "object": "car"},
        [PASSING, Actor([(20, 1.05, 0.8), (32, -0.05, 0.8)], label="car")],
        40,
        {},
        [(20.5, 26)],
    ),
    "presence for a time": ({"zone": "left", "seconds": 10}, [SHORT, STANDING, PASSING], 70, {}, [(12.5, 60.5)]),
    "absence": ({"rule": "absence", "zone": "left", "seconds": 5}, [STANDING], 80, {}, [(5, 5.3), (65.5, 80)]),
    "count": ({"rule": "count", "zone": "right", "at_least": 3}, CROWD, 60, {}, [(13, 40.5)]),
    "at most": (
        {"rule": "count", "zone": "left", "at_most": 0, "seconds": 2},
        [STANDING],
        70,
        {},
        [(2, 5.3), (62.5, 70)],
    ),
    "exactly": ({"rule": "count", "zone": "right", "exactly": 2, "seconds": 0.5}, CROWD, 30, {}, [(11.6, 12.3)]),
    "loitering": (
        {"rule": "loitering", "zone": "left", "seconds": 20},
        [STANDING, SHORT, PASSING],
        70,
        {},
        [(25, 60.5)],
    ),
    "loitering while hidden": ({"rule": "loitering", "zone": "left", "seconds": 20}, HIDDEN, 40, {}, [(22, 30.5)]),
    "loitering by class": (
        {"rule": "loitering", "zone": "left", "seconds": {"person": 40, "car": 10}},
        [STANDING, Actor([(10, 0.3, 0.8), (25, 0.3, 0.82)], label="car")],
        70,
        {},
        [(20, 25.5), (45, 60.5)],
    ),
    "against_flow": ({"rule": "against_flow", "zone": "left"}, [PASSING, BACK, STANDING], 70, {}, [(28, 31.5)]),
    "speed": (
        {"rule": "speed", "zone": "left", "metres_per_second": 2},
        [WALKING, RUNNING],
        40,
        {},
        [(30.8, 31.6)],
    ),
    "line in": ({"rule": "line", "line": "door", "direction": "in"}, [PASSING, BACK, STANDING], 40, {}, [(8, 8)]),
    "line any": ({"rule": "line", "line": "door"}, [PASSING, BACK, STANDING], 40, {}, [(8, 8), (26, 26)]),
    "crowding": ({"rule": "crowding", "at_least": 4}, [*CROWD, *FAR], 90, {}, [(16, 40.5)]),
    "route": (
        {"rule": "route", "start": "left", "via": "till", "zone": "exit"},
        [THIEF, BUYER],
        50,
        {},
        [(13, 15)],
    ),
    "fall": ({"rule": "fall"}, [Actor([(0, 0.5, 0.7), (60, 0.5, 0.7)])], 60, {"poses": "falls"}, [(41.5, 60)]),
    "anomaly": ({"rule": "anomaly"}, [], 50, {"anomaly": look}, [(10, 15), (30, 40)]),
    "anomaly in a zone": ({"rule": "anomaly", "zone": "left"}, [], 50, {"anomaly": look}, [(10, 15)]),
    "anomaly above": ({"rule": "anomaly", "threshold": 2.5}, [], 50, {"anomaly": look}, [(10, 15)]),
    "camera_covered": (
        {"rule": "camera_covered"},
        [],
        40,
        {"contrast": lambda t: 2.0 if 10 <= t < 20 or 30 <= t < 31 else 40.0},
        [(13, 20)],
    ),
    "sensor": (
        {"rule": "sensor", "sensor": "door open", "seconds": 5},
        [],
        40,
        {"sensors": lambda t: {"door open": 10 <= t < 20 or 30 <= t < 33}},
        [(15, 20)],
    ),
    "hybrid": (
        {"rule": "hybrid", "anomaly": 0.5, "signals": [{"rule": "a", "weight": 0.3}], "threshold": 0.7},
        [],
        50,
        {"anomaly": look, "flags": lambda t: {"a": 12 <= t < 32}},
        [(12, 15), (30, 32)],
    ),
    "hybrid that overrides": (
        {"rule": "hybrid", "anomaly": 0.3, "signals": [{"rule": "a", "override": True}], "threshold": 0.9},
        [],
        50,
        {"anomaly": look, "flags": lambda t: {"a": 20 <= t < 32}},
        [(20, 32)],
    ),
    "hybrid with a boost": (
        {"rule": "hybrid", "anomaly": 0.4, "signals": [{"rule": "a", "boost": 2}], "threshold": 0.7},
        [],
        50,
        {"anomaly": look, "flags": lambda t: {"a": 5 <= t < 12}},
        [(10, 12)],
    ),
}
RATES = {"plain": {}, "missed": {"missed": 0.1}, "switches": {"missed": 0.1, "switches": 0.15}}


def test_every_kind_has_a_scene():
    assert {fields.get("rule", "presence") for fields, *_ in CASES.values()} == set(KINDS)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", CASES)
def test_precision_and_recall(name, rate):
    fields, actors, seconds, more, truth = CASES[name]
    found = rule(cooldown=0, **fields)
    for seed in range(1 if rate == "plain" else 3):
        scenes = {key: poses({}) if value == "falls" else value for key, value in more.items()}
        events = play(actors, found.fresh(), seconds, **RATES[rate], seed=seed, **scenes)
        assert matches(events, truth) == (1.0, 1.0), (seed, events)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[1]])
def test_without_its_objects_a_rule_finds_nothing_but_absence(name):
    fields, _, seconds, more, _ = CASES[name]
    if fields.get("rule") in ("absence",) or "at_most" in fields or more:
        pytest.skip("holds of an empty scene")
    assert play([], rule(**fields), seconds) == []


def test_times_of_a_rule():
    """The scene begins at noon: a rule from 12:00:20 on is not there; one from 12:01 begins then."""
    still = [Actor([(0, 0.2, 0.5), (200, 0.2, 0.5)])]
    assert play(still, rule(zone="left", time_after="13:00"), 30) == []
    ((_, start, _),) = play(still, rule(zone="left", time_after="12:01"), 90)
    assert start == pytest.approx(60, abs=1 / FPS)
    ((_, start, end),) = play(still, rule(zone="left", time_before="12:01", days=["wed"]), 90)
    assert start < 1 and end == pytest.approx(60, abs=2 / FPS)
    assert play(still, rule(zone="left", days=["thu", "fri"]), 30) == []
