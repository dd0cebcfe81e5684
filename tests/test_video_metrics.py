"""Metrics of clips against scikit-learn, brute force and cases worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from stages.evaluate import clips, regions
from stages.evaluate.clips import Clip

random = np.random.default_rng(3)
MIXED = [Clip(f"c{k}", random.random(30) < 0.4, random.normal(size=30).round(1) + k) for k in range(4)]
ALL = Clip("all", np.ones(9, bool), random.normal(size=9))


def test_clips_are_put_in_order():
    items = [SimpleNamespace(clip=c, frame=f, label=f % 2) for c, f in (("b", 1), ("a", 2), ("b", 0), ("a", 10))]
    first, second = clips.by_clip(items, np.array([1.0, 2, 3, 4]))
    assert (first.name, second.name) == ("a", "b")
    assert first.scores.tolist() == [2, 4] and second.scores.tolist() == [3, 1]
    assert second.labels.tolist() == [False, True]


def test_frame_auc_is_scikit_learns_and_says_what_others_add():
    found = clips.frame_auc([*MIXED, ALL])
    labels = np.concatenate([c.labels for c in [*MIXED, ALL]])
    assert found["micro"] == pytest.approx(roc_auc_score(labels, np.concatenate([c.scores for c in [*MIXED, ALL]])))
    scaled = np.concatenate([(c.scores - c.scores.min()) / np.ptp(c.scores) for c in [*MIXED, ALL]])
    other = found["comparison"]
    assert other["micro_min_max"] == pytest.approx(roc_auc_score(labels, scaled))
    own = [roc_auc_score(c.labels, c.scores) for c in MIXED]
    assert other["macro"] == pytest.approx(np.mean(own))
    assert other["macro_adds"] == pytest.approx(np.mean(own) - found["micro"])
    assert found["clips"]["all"] is None and found["clips_without_auc"] == ["all"]
    padded = []
    for c in [*MIXED, ALL]:
        s = (c.scores - c.scores.min()) / np.ptp(c.scores)
        padded.append(roc_auc_score([0, *c.labels, 1], [0, *s, 1]))
    assert (
        other["macro_padded"] == pytest.approx(np.mean(padded)) and padded[-1] > 0.5
    )  # a clip without any normal frame


def test_smoothing_looks_back_alone():
    scores = random.normal(size=40)
    whole = clips.smoothed(scores)
    for end in (1, 7, 40):
        assert np.allclose(clips.smoothed(scores[:end]), whole[:end])
    assert np.allclose(clips.smoothed(np.full(5, 3.0)), 3) and whole.std() < scores.std()


def test_events_and_alarms_by_hand():
    labels = np.array([0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0], bool)
    scores = np.where(labels, 1.0, 0.0)
    scores[16] = 1.0  # one verdict alone raises no alarm
    assert clips.events(labels) == [(2, 10), (19, 21)]
    assert np.flatnonzero(clips.alarms(scores, 0.5)).tolist() == list(range(6, 14))  # with the fifth verdict
    found = clips.event_metrics([Clip("a", labels, scores)], 0.5, 10.0)
    assert (found["events"], found["alarms"], found["recall"], found["precision"]) == (2, 1, 0.5, 1.0)
    assert found["seconds_to_alarm"] == {"median": 0.4, "longest": 0.4} and found["false_alarms_per_hour"] == 0
    calm = Clip("b", np.zeros(20, bool), np.ones(20))  # two seconds of a false alarm
    found = clips.event_metrics([calm], 0.5, 10.0)
    assert found["false_alarms_per_hour"] == pytest.approx(1800) and found["recall"] is None


def test_the_alarm_is_the_one_of_the_device():
    from edge.app.trigger import Alarm

    for seed in range(20):
        scores = np.random.default_rng(seed).random(60)
        alarm = Alarm(clips.STEADY)
        assert clips.alarms(scores, 0.4).tolist() == [alarm(bool(score > 0.4)) for score in scores]


# regions and tracks


def scene(seed: int, count: int = 8, size: int = 14):
    """Two clips with a moving true square, sometimes a second one, and a noisy map that follows the first."""
    rng, frames = np.random.default_rng(seed), []
    for clip in ("a", "b"):
        y, x = rng.integers(1, size - 5, 2)
        for t in range(count):
            truth, map = np.zeros((size, size), bool), rng.random((size, size)).astype(np.float32)
            left = int(min(size - 4, x + t // 2))
            if t > 1:
                truth[y : y + 3, left : left + 3] = True
                map[y : y + 2, left : left + 3] += rng.uniform(0, 1.5)
            if t in (3, 4):
                truth[-2:, :2] = True
            frames.append(regions.Frame(clip, map, truth))
    return frames


def brute_force(frames, threshold):
    """Region and track rates and false positives per frame, written as the paper says it, with SciPy's regions."""
    eight = np.ones((3, 3))
    chains, open_chains, hits, total, false, last = [], [], 0, 0, 0, None
    for frame in frames:
        if frame.clip != last:
            open_chains, last = [], frame.clip
        labelled, n = ndimage.label(frame.truth, eight)
        found, m = ndimage.label(frame.map > threshold, eight)
        truths = [{*zip(*np.nonzero(labelled == i), strict=True)} for i in range(1, n + 1)]
        boxes = [{*zip(*np.nonzero(found == i), strict=True)} for i in range(1, m + 1)]
        met = [any(len(t & b) / len(t | b) >= 0.1 for b in boxes) for t in truths]
        false += sum(not any(len(t & b) / len(t | b) >= 0.1 for t in truths) for b in boxes)
        hits, total = hits + sum(met), total + n
        following = []
        for truth, hit in zip(truths, met, strict=True):
            options = [(len(truth & old) / len(truth | old), chain) for old, chain in open_chains]
            options = [option for option in options if option[0] >= 0.1]
            chain = max(options, key=lambda option: option[0])[1] if options else []
            if not options:
                chains.append(chain)
            chain.append(hit)
            following.append((truth, chain))
        open_chains = following
    return hits / total, np.mean([sum(chain) >= 0.1 * len(chain) for chain in chains]), false / len(frames)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.6, 0.9, 1.1, 1.8])
def test_rates_against_brute_force(seed, threshold):
    frames = scene(seed)
    truths = [regions.components(frame.truth) for frame in frames]
    found = regions.at_threshold(frames, truths, regions.tracks(frames, truths), threshold)
    assert found == pytest.approx(brute_force(frames, threshold))


def test_the_area_is_that_of_the_curve():
    assert regions.area(np.array([0.0, 0.5, 2.0]), np.array([0.4, 0.8, 1.0])) == pytest.approx(
        (0.4 + 0.8) / 2 * 0.5 + (0.8 + (0.8 + 0.2 / 3)) / 2 * 0.5
    )
    assert regions.area(np.array([0.0]), np.array([1.0])) == 1.0
    assert regions.area(np.array([0.2, 0.6]), np.array([0.5, 0.3])) == pytest.approx(0.5 * 0.1 + 0.8 * 0.5)


def test_a_perfect_map_has_all_and_a_blind_one_nothing():
    frames = scene(1)
    perfect = [regions.Frame(f.clip, f.truth.astype(np.float32), f.truth) for f in frames]
    found = regions.criteria(perfect)
    assert found["rbdc"] == 1.0 and found["tbdc"] == 1.0 and found["regions"] == 16 and found["tracks"] == 4
    blind = [regions.Frame(f.clip, 1 - f.truth.astype(np.float32), f.truth) for f in frames]
    assert regions.criteria(blind)["rbdc"] == 0.0
    nothing = [regions.Frame("a", f.map, np.zeros_like(f.truth)) for f in frames]
    assert regions.criteria(nothing) == {"rbdc": None, "tbdc": None, "regions": 0, "tracks": 0}
