"""The life of an event: new, update, end; cooldown, escalation, dismissal."""

from datetime import UTC, datetime, timedelta

import pytest

from edge.watch.incidents import MOST_OPEN, Incidents
from edge.watch.rule import Cycle, Finding

START = datetime(2026, 6, 3, tzinfo=UTC)


def play(found, seconds, dismiss=None, fps=10, **cycle):
    """Messages [(seconds, phase, id, severity, ended_by), ...] of `found(t)`, which gives findings."""
    told, now = [], 0.0
    incidents = Incidents(Cycle(**cycle), lambda phase, i: told.append((now, phase, i.id, i.severity, i.ended_by)))
    for frame in range(int(seconds * fps)):
        now = frame / fps
        if dismiss is not None and now >= dismiss and told:
            incidents.dismiss(told[0][2], now)
            dismiss = None
        incidents.step(found(now), now, START + timedelta(seconds=now))
    return told, incidents


def between(*spans, **more):
    return lambda t: [Finding("it", **more)] if any(a <= t < b for a, b in spans) else []


def phases(told):
    return [(round(at, 1), phase) for at, phase, *_ in told]


def test_new_updates_end():
    told, _ = play(between((1, 8)), 20, end_after=2, update=3)
    assert phases(told) == [(1, "new"), (4, "update"), (7, "update"), (9.9, "end")]
    assert len({event for _, _, event, *_ in told}) == 1 and told[-1][4] == "over"


def test_a_gap_shorter_than_end_after_is_the_same_event():
    told, _ = play(between((1, 3), (4.5, 6)), 20, end_after=2, update=0)
    assert phases(told) == [(1, "new"), (7.9, "end")]
    told, _ = play(between((1, 3), (6, 7)), 20, end_after=2, update=0, cooldown=0)
    assert [phase for _, phase in phases(told)] == ["new", "end"] * 2


def test_sequence_counts_up_from_zero():
    seen = []
    incidents = Incidents(Cycle(update=1), lambda phase, incident: seen.append((phase, incident.sequence)))
    for i in range(40):
        incidents.step([Finding("a")] if i < 25 else [], i / 10, START)
    incidents.close(9)
    assert seen == [("new", 0), ("update", 1), ("update", 2), ("end", 3)]


def test_cooldown_keeps_the_same_quiet_and_then_reports_what_still_holds():
    told, incidents = play(between((1, 2), (5, 6), (20, 30)), 40, end_after=1, cooldown=10, update=0)
    assert phases(told) == [(1, "new"), (2.9, "end"), (20, "new"), (30.9, "end")]
    assert incidents.suppressed == 1
    told, _ = play(between((1, 2), (8, 30)), 40, end_after=1, cooldown=10, update=0)
    assert phases(told)[2] == (12.9, "new")
    other = {"a": (1, 2), "b": (3, 4)}
    told, _ = play(lambda t: [Finding(k) for k, (a, b) in other.items() if a <= t < b], 10, end_after=1, cooldown=60)
    assert [phase for _, phase in phases(told)] == ["new", "end", "new", "end"]  # another key is not quiet


def test_escalation_is_an_update_at_once():
    told, _ = play(between((1, 40)), 50, update=100, escalate_after=30, end_after=2)
    assert phases(told) == [(1, "new"), (31, "update"), (41.9, "end")]
    assert [severity for _, _, _, severity, _ in told] == ["warning", "alarm", "alarm"]


def test_a_higher_score_is_an_update():
    scores = {1: 1.0, 2: 1.1, 3: 1.5, 4: 1.4}
    told, _ = play(
        lambda t: [Finding("a", score=scores[int(t)])] if int(t) in scores else [], 10, update=100, end_after=1
    )
    assert phases(told) == [(1, "new"), (3, "update"), (5.9, "end")]


def test_a_dismissed_event_ends_and_stays_quiet():
    told, incidents = play(between((1, 100)), 120, dismiss=5, dismissed=60, end_after=2, update=0)
    assert phases(told) == [(1, "new"), (5, "end"), (65, "new"), (101.9, "end")]
    assert told[1][4] == "dismissed" and incidents.suppressed == 1
    assert incidents.dismiss("no such event", 0) is False


def test_no_more_than_so_many_at_once():
    told, incidents = play(lambda t: [Finding(i) for i in range(MOST_OPEN + 5)] if t < 0.05 else [], 0.1)
    assert len(told) == MOST_OPEN and incidents.refused == 5


def test_closing_ends_all():
    told, incidents = play(between((1, 9)), 5)
    incidents.close(5.0)
    assert phases(told)[-1][1] == "end" and told[-1][4] == "stopped" and not incidents.open


@pytest.mark.parametrize("seed", range(3))
def test_whatever_comes_each_event_has_one_beginning_and_one_end(seed):
    import random

    rng = random.Random(seed)
    told, incidents = play(
        lambda t: [Finding(k) for k in "abc" if rng.random() < 0.4], 60, end_after=0.3, cooldown=0.5, update=1
    )
    incidents.close(60.0)
    by_event = {}
    for _, phase, event, *_ in told:
        by_event.setdefault(event, []).append(phase)
    assert len(by_event) > 10
    for found in by_event.values():
        assert found[0] == "new" and found[-1] == "end" and set(found[1:-1]) <= {"update"}
