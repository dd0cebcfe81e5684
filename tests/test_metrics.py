"""The metrics against their definitions: loops over every pair, threshold and region."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics as reference

from stages.common.metrics import average_precision, image_auroc
from stages.evaluate import metrics


def brute_force_aupro(maps, masks, limit):
    """AUPRO by its definition: a loop over every threshold and every region."""
    regions = []
    for i, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(i, labelled == k) for k in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        above = maps >= threshold
        overlap = np.mean([above[i][region].mean() for i, region in regions])
        points.append((above[~masks].mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def random_case(rng, levels):
    n, h, w = rng.integers(1, 5), rng.integers(3, 14), rng.integers(3, 14)
    masks = rng.random((n, h, w)) < rng.choice([0.05, 0.2, 0.5, 0.8])
    masks[0, 0, 0], masks[0, -1, -1] = True, False
    maps = rng.random((n, h, w)) + masks * rng.choice([-0.5, 0, 0.3, 0.8])
    return (np.round(maps * levels) / levels if levels else maps).astype(np.float32), masks


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [0, 1, 4, 20])
def test_pixel_metrics_against_definition(limit, levels):
    rng = np.random.default_rng([levels, int(limit * 100)])
    for _ in range(15):
        maps, masks = random_case(rng, levels)
        got = metrics.pixel_metrics(maps, masks, limit)
        assert got["aupro"] == pytest.approx(brute_force_aupro(maps, masks, limit), abs=1e-9)
        assert got["pixel_auroc"] == pytest.approx(reference.roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)


def test_regions_touching_at_a_corner_are_one():
    masks = np.zeros((1, 6, 6), bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 5, 5] = True
    maps = np.zeros((1, 6, 6), np.float32)
    maps[0, 0, 0] = 1  # half of the first of two regions, then everything at once
    expected = (0.25 + (0.25 + 0.75 * 0.3)) / 2
    assert metrics.pixel_metrics(maps, masks, 0.3)["aupro"] == pytest.approx(expected)
    assert brute_force_aupro(maps, masks, 0.3) == pytest.approx(expected)


@pytest.mark.parametrize("limit", [0.3, 1.0])
def test_perfect_constant_and_inverted_maps(limit):
    masks = np.zeros((3, 16, 16), bool)
    masks[0, 2:5, 3:9] = masks[1, 10:, 10:] = True
    perfect = metrics.pixel_metrics(masks.astype(np.float32), masks, limit)
    inverted = metrics.pixel_metrics(1 - masks.astype(np.float32), masks, limit)
    constant = metrics.pixel_metrics(np.full(masks.shape, 0.7, np.float32), masks, limit)
    assert perfect == {"pixel_auroc": 1.0, "aupro": 1.0}
    assert inverted == {"pixel_auroc": 0.0, "aupro": 0.0}
    assert constant == pytest.approx({"pixel_auroc": 0.5, "aupro": limit / 2})


def auroc_of_pairs(labels, scores):
    """The share of (defect, good) pairs in the right order, a tie being half of one."""
    return np.mean([(d > g) + (d == g) / 2 for d in scores[labels] for g in scores[~labels]])


def precision_and_recall(labels, decisions):
    """Counted one by one; 0 where nothing is there to divide by."""
    hits = sum(bool(label and decision) for label, decision in zip(labels, decisions, strict=True))
    return hits / max(decisions.sum(), 1), hits / max(labels.sum(), 1)


def average_precision_of_steps(labels, scores):
    """Precision at every distinct threshold, times the recall that it adds."""
    area = before = 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        precision, recall = precision_and_recall(labels, scores >= threshold)
        area, before = area + precision * (recall - before), recall
    return area


@pytest.mark.parametrize("levels", [0, 3, 10])
def test_image_metrics_against_their_definitions(levels):
    rng = np.random.default_rng(levels)
    for i in range(20):
        labels = rng.random(rng.integers(4, 60)) < 0.4
        labels[:2] = True, False
        scores = rng.random(labels.size) + 0.3 * labels
        scores = np.round(scores * levels) / levels if levels else scores
        decisions = scores > (0.6 if i else 2)  # the first finds nothing
        assert image_auroc(labels, scores) == pytest.approx(auroc_of_pairs(labels, scores), abs=1e-12)
        expected = average_precision_of_steps(labels, scores)
        assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)
        precision, recall = precision_and_recall(labels, decisions)
        f1 = 2 * precision * recall / max(precision + recall, 1e-300)
        expected = {"precision": precision, "recall": recall, "f1": f1}
        assert metrics.decision_metrics(labels, decisions) == pytest.approx(expected, abs=1e-12)


def test_each_defect_type_is_compared_with_all_good_pictures():
    defects = ["good", "crack", "good", "hole", "crack", "good"]
    scores = np.array([0.1, 0.9, 0.5, 0.3, 0.4, 0.2])
    assert metrics.per_defect_auroc(defects, scores) == pytest.approx({"crack": 5 / 6, "hole": 2 / 3})


def test_one_class_nan_and_shapes_are_errors():
    with pytest.raises(ValueError, match="one class"):
        image_auroc([1, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="one class"):
        average_precision([0, 0], [0.1, 0.2])
    with pytest.raises(ValueError, match="NaN"):
        image_auroc([0, 1], [0.1, np.nan])
    maps, masks = np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), bool)
    with pytest.raises(ValueError, match="one class"):
        metrics.pixel_metrics(maps, masks)
    with pytest.raises(ValueError, match="alike"):
        metrics.pixel_metrics(maps[:, :2], masks)
    with pytest.raises(ValueError, match="fpr_limit"):
        metrics.pixel_metrics(maps, masks, 0)
