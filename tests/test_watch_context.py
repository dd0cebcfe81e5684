"""Thresholds of contexts against numpy's quantiles, their parents, their file; and the steps of the load."""

import json
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from conftest import one_line

from edge.errors import UserError
from edge.watch.context import MOST_CONTEXTS, MOST_SCORES, Contexts, _Scores
from edge.watch.load import CALM, STEPS, WINDOW, Load
from edge.watch.schedule import WEEKDAYS, Hours

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Hours(BERLIN, tuple(((22 * 60, 30 * 60),) for _ in WEEKDAYS))
MORNING = datetime(2026, 6, 3, 7, tzinfo=UTC)  # Wednesday, nine in Berlin
EVENING = datetime(2026, 6, 3, 21, tzinfo=UTC)  # eleven at night


def contexts(**more):
    return Contexts(BERLIN, {"night": NIGHT}, learn=True, **more)


def test_keys_go_from_the_particular_to_the_general():
    context = contexts().at(EVENING, "gate")
    assert (context.slot, context.weekday, context.state) == ("20-24", "wed", "night")
    assert context.keys == ("gate|night|20-24|wed", "gate|night|20-24|*", "gate|night|*|*", "gate|*|*|*")
    assert contexts().at(MORNING).keys[0] == "||08-12|wed"


def test_the_vector_is_periodic_and_one_hot():
    found = contexts()
    late = found.at(datetime(2026, 6, 7, 21, 59, tzinfo=UTC), "b").vector(("a", "b"), ("night",))
    early = found.at(datetime(2026, 6, 7, 22, 1, tzinfo=UTC), "b").vector(("a", "b"), ("night",))
    noon = found.at(datetime(2026, 6, 7, 10, 0, tzinfo=UTC), "b").vector(("a", "b"), ("night",))
    assert late[4:] == early[4:] == [0, 1, 1] and noon[4:] == [0, 1, 0]
    assert np.linalg.norm(np.subtract(late, early)) < 0.02 < 1 < np.linalg.norm(np.subtract(late, noon))


def test_a_threshold_is_the_quantile_with_a_margin():
    found, rng = contexts(least=50), np.random.default_rng(0)
    scores = rng.uniform(1, 2, 200)
    for score in scores:
        found.add("m", found.at(MORNING), float(score))
    expected = 1.2 * np.quantile(scores, 0.99)
    assert found.threshold("m", found.at(MORNING), 1.0) == pytest.approx(expected)
    assert found.threshold("another", found.at(MORNING), 1.0) == 1.0


def test_the_floor_is_a_share_of_the_model_s_threshold():
    found = contexts(least=10, floor=0.5)
    for _ in range(20):
        found.add("m", found.at(MORNING), 0.001)
    assert found.threshold("m", found.at(MORNING), 1.0) == 0.5


def test_few_samples_fall_back_to_the_parent():
    found = contexts(least=50, floor=0)
    for i in range(60):
        found.add("m", found.at(MORNING), 2.0 + i / 1e6)
    for _ in range(10):
        found.add("m", found.at(EVENING), 9.0)
    thursday = datetime(2026, 6, 4, 7, tzinfo=UTC)
    assert found.threshold("m", found.at(MORNING), 1.0) == pytest.approx(2.4, abs=1e-3)
    assert found.threshold("m", found.at(thursday), 1.0) == pytest.approx(2.4, abs=1e-3)  # of another weekday
    assert found.threshold("m", found.at(EVENING), 1.0) == pytest.approx(1.2 * 9)  # of all hours and states
    assert found.threshold("m", found.at(EVENING, "gate"), 1.0) == 1.0  # no zone stands for another


def test_the_sample_is_fair_and_bounded():
    found = contexts()
    for i in range(20 * MOST_SCORES):
        found.add("m", found.at(MORNING), float(i))
    kept = found._scores["m|||08-12|wed"].kept
    assert len(kept) == MOST_SCORES and abs(np.mean(kept) / (10 * MOST_SCORES) - 1) < 0.1
    for i in range(2 * MOST_CONTEXTS):
        found.add(f"m{i}", found.at(MORNING), 1.0)
    assert len(found._scores) <= MOST_CONTEXTS


def test_what_was_learned_survives_a_restart(tmp_path):
    first = contexts(file=tmp_path / "learned.json", least=10)
    for i in range(30):
        first.add("m", first.at(MORNING), i / 7)
    first.save()
    second = contexts(file=tmp_path / "learned.json", least=10)
    second.load()
    at = first.at(MORNING)
    assert second.threshold("m", at, 1.0) == pytest.approx(first.threshold("m", at, 1.0), rel=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["learned.json"]


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 2, "contexts": {}}', '{"schema": 1, "contexts": {"a": 1}}'])
def test_a_broken_file_is_one_line(tmp_path, content):
    (tmp_path / "learned.json").write_text(content)
    with pytest.raises(UserError) as caught:
        contexts(file=tmp_path / "learned.json").load()
    assert "learned.json" in one_line(caught)


def test_the_largest_file_can_be_read_again(tmp_path):
    found = contexts(file=Path(tmp_path / "learned.json"))
    for i in range(MOST_CONTEXTS):
        for j in range(MOST_SCORES):
            found._scores.setdefault(f"model-{i}|a long zone|night|20-24|wed", _Scores()).kept.append(i + j / 7)
    for scores in found._scores.values():
        scores.seen = len(scores.kept)
    found.save()
    json.loads((tmp_path / "learned.json").read_text())
    found.load()


def test_load_steps_down_and_up_again():
    load = Load(0.9, 0.4)
    assert load.now is STEPS[0]
    for _ in range(WINDOW):
        load.step(0.1, 0.05)
    assert load.now is STEPS[1] and load.counts == {"reduced": 1, "restored": 0}
    for _ in range(20 * WINDOW):
        load.step(0.1, 0.05)
    assert load.now is STEPS[-1] and load.counts["reduced"] == len(STEPS) - 1
    for _ in range(CALM * WINDOW):
        load.step(0.01, 0.05)
    assert load.now is STEPS[-2]
    for _ in range(20 * CALM * WINDOW):
        load.step(0.01, 0.05)
    assert load.now is STEPS[0] and load.counts["restored"] == len(STEPS) - 1


def test_load_between_its_limits_stays():
    load = Load(0.9, 0.4, level=2)
    for _ in range(50 * WINDOW):
        load.step(0.03, 0.05)
    assert load.level == 2
