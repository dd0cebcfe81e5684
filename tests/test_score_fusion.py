"""Score fusion: normalisation by hand, the choice of weights against OpenCV, scipy and scikit-learn."""

import itertools

import cv2
import numpy as np
import pytest
import torch
from conftest import one_line
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from edge.errors import UserError
from stages.detectors import score_fusion

torch.set_num_threads(1)
SIDES = {"fine": 4, "deep": 4, "mask": 8}  # of the maps of pictures with 64 pixels to a side


def maps(names, count: int = 30, seed: int = 0, **extra: float) -> dict[str, torch.Tensor]:
    """Random maps of each part, with a peak of height `extra` somewhere in every map."""
    rng = np.random.default_rng(seed)
    found = {}
    for name in names:
        values = rng.normal(size=(count, 1, SIDES[name], SIDES[name]))
        for one in values:
            one[0, rng.integers(SIDES[name]), rng.integers(SIDES[name])] += extra.get(name, 0)
        found[name] = torch.tensor(values, dtype=torch.float32)
    return found


def score(one: np.ndarray) -> float:
    """The image score of a map [1, h, w] at the size of the student's map."""
    large = cv2.resize(one[0].astype(np.float64), (8, 8), interpolation=cv2.INTER_LINEAR)
    return ndimage.uniform_filter(large, 3, mode="nearest").max()


def reference(parts: dict) -> dict[str, tuple[float, float]]:
    """Mean and level of each part."""
    found = {}
    for name, values in parts.items():
        mean = values.numpy().astype(np.float64).mean()
        found[name] = mean, np.sort([score(one) for one in values.numpy()])[(len(values) - 1) // 2] - mean
    return found


def test_normalisation_by_hand():
    """Three pictures with even maps, of which the score is the value: their mean is 3, and the median score 4."""
    even = torch.tensor([0.0, 4.0, 5.0]).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    found = score_fusion.normalisation({"fine": 10 * even, "deep": even - 2})
    assert found["fine"] == pytest.approx({"mean": 30, "level": 10})
    assert found["deep"] == pytest.approx({"mean": 1, "level": 1})


def test_of_pictures_unlike_each_other_the_highest_counts():
    """The median score, 0, is below the mean of all maps, 10 / 3: a level must be above it."""
    even = torch.tensor([0.0, 10.0, 0.0]).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    found = score_fusion.normalisation({"fine": even, "deep": maps(["deep"], 3)["deep"]})
    assert found["fine"] == pytest.approx({"mean": 10 / 3, "level": 20 / 3})


def test_a_peak_is_averaged_over_three_by_three():
    """A mask with one 9 in each map: its image score is 1, wherever the 9 is, and its mean 9 / 64."""
    mask = torch.zeros(5, 1, 8, 8)
    for i, (y, x) in enumerate([(1, 1), (3, 4), (6, 2), (5, 5), (2, 6)]):
        mask[i, 0, y, x] = 9
    found = score_fusion.normalisation({"deep": maps(["deep"])["deep"][:5], "mask": mask})["mask"]
    assert found == pytest.approx({"mean": 9 / 64, "level": 1 - 9 / 64})


@pytest.mark.parametrize("names", [["fine", "deep"], ["fine", "deep", "mask"]])
def test_normalisation_against_opencv_and_scipy(names):
    parts = maps(names, 31, mask=3.0)
    found = score_fusion.normalisation(parts)
    for name, (mean, level) in reference(parts).items():
        assert found[name] == pytest.approx({"mean": mean, "level": level}, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("names", [["fine", "deep"], ["fine", "deep", "mask"]])
def test_choice_against_every_candidate(names):
    """Maps of 64 pixels with and without a mask are judged at 8 x 8, the size of the exported one. Chosen is the first
    candidate, the mask counting least, that finds about as many defects as the best."""
    good = maps(names, 31)
    defects = {
        "a": maps(names, 25, 1, fine=4.0, mask=2.0),
        "b": maps(names, 25, 2, deep=3.0),
        "c": maps(names, 25, 3, mask=5.0),
    }
    scale, aurocs = reference(good), {}
    for mask, deep in itertools.product(score_fusion.MASK_WEIGHTS if "mask" in names else [0], [0.5, 0.25, 0.75]):
        weights = {"fine": (1 - mask) * (1 - deep), "deep": (1 - mask) * deep, "mask": mask}

        def scores(parts, weights=weights):
            total = []
            for i in range(len(parts["fine"])):
                joined = np.zeros((8, 8))
                for name in names:
                    mean, level = scale[name]
                    one = (parts[name][i, 0].numpy().astype(np.float64) - mean) / level
                    joined += weights[name] * cv2.resize(one, (8, 8), interpolation=cv2.INTER_LINEAR)
                total.append(score(joined[None]))
            return total

        normal = scores(good)
        found = [roc_auc_score([0] * len(normal) + [1] * 25, normal + scores(parts)) for parts in defects.values()]
        aurocs[tuple(weights[name] for name in names)] = [*found, np.mean(found)]
    weights, record = score_fusion.choose_weights(good, defects)
    assert list(weights) == names and sum(weights.values()) == pytest.approx(1)
    best = max(values[-1] for values in aurocs.values())
    expected = next(key for key, values in aurocs.items() if values[-1] >= best - score_fusion.TOLERANCE)
    assert expected == pytest.approx(tuple(weights.values()))
    assert list(record) == ["a", "b", "c", "mean"]
    assert list(record.values()) == pytest.approx(aurocs[expected], abs=2e-3)
    assert len({round(values[-1], 4) for values in aurocs.values()}) > 2, "or every choice would do"


@pytest.mark.parametrize("knows", ["fine", "deep", "mask"])
def test_the_part_that_knows_counts_most(knows):
    names = ["fine", "deep", "mask"]
    good, defects = maps(names), {"a": maps(names, 40, 1, **{knows: 12.0})}
    weights, record = score_fusion.choose_weights(good, defects)
    assert weights[knows] == max(weights.values()) and min(weights.values()) > 0
    assert record["a"] == record["mean"] > 0.9


def test_what_all_parts_find_leaves_their_weights_equal():
    good, defects = maps(["fine", "deep", "mask"]), {"a": maps(["fine", "deep", "mask"], 25, 1, fine=9, deep=9, mask=9)}
    weights, _ = score_fusion.choose_weights(good, defects)
    assert list(weights.values()) == pytest.approx([1 / 3] * 3, abs=0.01)


def test_scale_and_shift_of_a_part_change_nothing():
    """An int8 network's parts, or a mask that was scaled before, are brought to one scale again."""
    names = ["fine", "deep", "mask"]
    good, defects = maps(names), {"a": maps(names, 40, 1, fine=3.0), "b": maps(names, 40, 2, mask=3.0)}
    factor = {"fine": 300.0, "deep": 0.01, "mask": 4.0}

    def moved(parts):
        return {name: part * factor[name] - 7 * factor[name] for name, part in parts.items()}

    first = score_fusion.choose_weights(good, defects)
    second = score_fusion.choose_weights(moved(good), {name: moved(parts) for name, parts in defects.items()})
    assert first[0] == second[0] and first[1] == pytest.approx(second[1], abs=2e-3)


@pytest.mark.parametrize("name", ["fine", "deep", "mask"])
@pytest.mark.parametrize("value", [0.0, 3.5, float("nan"), float("inf")])
def test_a_part_that_is_constant_or_not_finite_is_named(name, value):
    parts = maps(["fine", "deep", "mask"])
    parts[name] = torch.full_like(parts[name], value)
    for call in (score_fusion.normalisation, lambda good: score_fusion.choose_weights(good, {"a": maps(SIDES)})):
        with pytest.raises(UserError, match=f"the part {name} of the map") as caught:
            call(parts)
        one_line(caught)


def test_defects_whose_maps_are_not_finite_are_refused():
    parts = maps(SIDES, 40, 1)
    parts["mask"][3] = float("nan")
    with pytest.raises(UserError, match="scores are not finite") as caught:
        score_fusion.choose_weights(maps(SIDES), {"a": parts})
    one_line(caught)


def test_a_mask_alone_has_all_the_weight():
    good, bad = maps(["mask"]), {"spot": maps(["mask"], 20, 1, mask=4.0)}
    weights, aurocs = score_fusion.choose_weights(good, bad)
    assert weights == {"mask": 1.0}
    scores = [score(one) for part in (good, bad["spot"]) for one in part["mask"].numpy()]
    assert aurocs["spot"] == aurocs["mean"] == pytest.approx(roc_auc_score([0] * 30 + [1] * 20, scores), abs=0.003)
