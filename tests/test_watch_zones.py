"""Zones and lines against OpenCV's geometry and shapely-free arithmetic of their own."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from edge.watch.tracker import Track
from edge.watch.zones import Line, Occupancy, Zone


def track(x, y, number=1, missed=0, origin=-1):
    return Track(number, "person", 0.9, (x - 0.05, y - 0.2, x + 0.05, y), 0.0, 0.0, origin=origin, missed=missed)


def test_contains_is_opencv_s():
    rng = np.random.default_rng(0)
    for _ in range(50):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        radii = rng.uniform(0.1, 0.5, len(angles))
        polygon = np.stack([0.5 + radii * np.cos(angles), 0.5 + radii * np.sin(angles)], 1)  # a star: not always convex
        zone = Zone("z", "cam", tuple(map(tuple, polygon)))
        for x, y in rng.uniform(0, 1, (100, 2)):
            distance = cv2.pointPolygonTest(polygon.astype(np.float32), (float(x), float(y)), True)
            if abs(distance) > 1e-5:
                assert zone.contains(x, y) == (distance > 0)


def test_two_zones_share_an_edge_without_overlap_or_gap():
    left = Zone("l", "cam", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    right = Zone("r", "cam", ((0.5, 0), (1, 0), (1, 1), (0.5, 1)))
    for y in (0.1, 0.5, 0.9):
        assert left.contains(0.5, y) + right.contains(0.5, y) == 1


def test_the_bottom_centre_counts():
    zone = Zone("z", "cam", ((0, 0.5), (1, 0.5), (1, 1), (0, 1)), inertia=1)
    occupancy = Occupancy((zone,))
    assert occupancy.step([track(0.5, 0.49)])["z"] == []  # the feet are above
    assert len(occupancy.step([track(0.5, 0.51)])["z"]) == 1


def test_inertia_needs_frames_in_a_row():
    occupancy = Occupancy((Zone("z", "cam", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)), inertia=3),))
    ways = [0.4, 0.4, 0.6, 0.4, 0.4, 0.4, 0.6, 0.6, 0.4, 0.6, 0.6, 0.6]
    inside = [bool(occupancy.step([track(x, 0.5)])["z"]) for x in ways]
    assert inside == [False] * 5 + [True] * 6 + [False]


def test_what_was_not_seen_has_not_moved():
    occupancy = Occupancy((Zone("z", "cam", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)), inertia=2),))
    for x in (0.4, 0.4):
        occupancy.step([track(x, 0.5)])
    assert [bool(occupancy.step([track(0.6, 0.5, missed=1)])["z"]) for _ in range(5)] == [True] * 5


def test_the_origin_not_the_number_is_in_a_zone():
    occupancy = Occupancy((Zone("z", "cam", ((0, 0), (1, 0), (1, 1), (0, 1)), inertia=3),))
    for _ in range(3):
        occupancy.step([track(0.5, 0.5, 1)])
    assert len(occupancy.step([track(0.5, 0.5, 9, origin=1)])["z"]) == 1
    assert len(occupancy.step([track(0.5, 0.5, 10, origin=10)])["z"]) == 0


def cut(a, b, c, d):
    """Whether two segments cut each other, by solving for their parameters."""
    matrix = np.array([np.subtract(b, a), np.subtract(c, d)]).T
    if abs(np.linalg.det(matrix)) < 1e-9:
        return False
    s, t = np.linalg.solve(matrix, np.subtract(c, a))
    return 0 <= s <= 1 and 0 <= t <= 1


def test_a_line_is_crossed_where_two_segments_cut():
    rng, crossed = np.random.default_rng(1), 0
    for start, end, before, now in rng.uniform(0, 1, (2000, 4, 2)):
        line = Line("l", "cam", tuple(start), tuple(end))
        found = line.crossed(tuple(before), tuple(now))
        assert (found is not None) == cut(start, end, before, now)
        crossed += found is not None
    assert crossed > 200


@pytest.mark.parametrize("before, now, way", [((0.2, 0.5), (0.8, 0.5), "in"), ((0.8, 0.5), (0.2, 0.5), "out")])
def test_in_is_from_the_left_to_the_right_of_who_walks_along_the_line(before, now, way):
    """Walking up the picture, the right hand is at the picture's right."""
    assert Line("l", "cam", (0.5, 1), (0.5, 0)).crossed(before, now) == way


def test_a_way_that_rests_on_the_line_crosses_it_once():
    line = Line("l", "cam", (0.5, 1), (0.5, 0))
    ways = [(0.4, 0.5), (0.5, 0.5), (0.6, 0.5)]
    found = [line.crossed(a, b) for a, b in pairwise(ways)]
    assert [way for way in found if way] == ["in"]
