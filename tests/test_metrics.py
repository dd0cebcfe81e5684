"""The metrics against their definitions: loops over every pair, threshold and region; large sets against
scikit-learn."""

import tracemalloc

import cv2
import numpy as np
import pytest
from pixel_reference import brute_force_aupro, exact
from sklearn import metrics as reference

from stages.common.metrics import average_precision, image_auroc
from stages.evaluate import curves, metrics


def streamed(maps, masks, limit=0.3, most=curves.MOST):
    """The areas as `evaluate` finds them: both passes see one picture at a time."""
    thresholds = curves.Thresholds(most)
    for map in maps:
        thresholds.add(map)
    found = curves.Curves(thresholds.drawn())
    for map, mask in zip(maps, masks, strict=True):
        found.add(map, mask)
    return found.areas(limit)


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
        got = streamed(maps, masks, limit)
        assert got["aupro"] == pytest.approx(brute_force_aupro(maps, masks, limit), abs=1e-9)
        assert got["pixel_auroc"] == pytest.approx(reference.roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)


def test_regions_touching_at_a_corner_are_one():
    masks = np.zeros((1, 6, 6), bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 5, 5] = True
    maps = np.zeros((1, 6, 6), np.float32)
    maps[0, 0, 0] = 1  # half of the first of two regions, then everything at once
    expected = (0.25 + (0.25 + 0.75 * 0.3)) / 2
    assert streamed(maps, masks)["aupro"] == pytest.approx(expected)
    assert brute_force_aupro(maps, masks, 0.3) == pytest.approx(expected)


@pytest.mark.parametrize("limit", [0.3, 1.0])
def test_perfect_constant_and_inverted_maps(limit):
    masks = np.zeros((3, 16, 16), bool)
    masks[0, 2:5, 3:9] = masks[1, 10:, 10:] = True
    perfect = streamed(masks.astype(np.float32), masks, limit)
    inverted = streamed(1 - masks.astype(np.float32), masks, limit)
    constant = streamed(np.full(masks.shape, 0.7, np.float32), masks, limit)
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
    with pytest.raises(ValueError, match="alike"):
        curves.Curves(np.zeros(1, np.float32)).add(np.zeros((2, 4), np.float32), np.zeros((4, 4), bool))


@pytest.mark.parametrize("marked", [0, 1])
def test_pixels_of_one_class_have_no_areas(marked):
    masks = np.full((2, 8, 8), bool(marked))
    assert streamed(np.random.default_rng(0).random((2, 8, 8), np.float32), masks) == dict.fromkeys(
        ("pixel_auroc", "aupro")
    )
    assert streamed([], []) == dict.fromkeys(("pixel_auroc", "aupro"))


# large sets, of which only some values become thresholds


def large_set(seed: int):
    """Maps and masks of very different sizes, with ten times more pixels than there are thresholds."""
    rng = np.random.default_rng(seed)
    for i, shape in enumerate([(227, 105), (403, 632), (64, 4000), (1500, 1500), (128, 128), (900, 1000)]):
        map = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), 3)
        mask = np.zeros(shape, bool)
        for _ in range(2 + i % 4):
            y, x = (int(rng.integers(0, side - 20)) for side in shape)
            mask[y : y + int(rng.integers(1, 20)), x : x + int(rng.integers(1, 20))] = True
        yield (map + mask * np.float32(rng.uniform(-0.1, 0.4))), mask


KINDS = {
    "smooth": lambda x: x,
    "many octaves": lambda x: np.exp(20 * x),
    "all nearly equal": lambda x: np.float32(100) + np.float32(1e-3) * x,
    "a few levels": lambda x: np.round(8 * x) / 8,
    "levels within an ulp": lambda x: np.nextafter(np.round(50 * x) / 50, np.sign(np.sin(1e4 * x)) * np.float32(9e9)),
    "mostly zero": lambda x: np.maximum(x - np.float32(0.3), 0),
    "saturated": lambda x: 1 / (1 + np.exp(-60 * x)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_thresholds_is_as_good_as_all(kind):
    pairs = [(KINDS[kind](map).astype(np.float32), mask) for map, mask in large_set(len(kind))]
    maps, masks = zip(*pairs, strict=True)
    assert sum(map.size for map in maps) > 10 * curves.MOST
    for limit in (0.3, 0.02):
        expected = exact(maps, masks, limit)
        assert 0.4 < expected["pixel_auroc"] < 0.99 and 0.01 < expected["aupro"] < 0.95
        assert streamed(maps, masks, limit) == pytest.approx(expected, abs=2e-5)


def test_the_error_falls_with_the_number_of_thresholds():
    rng = np.random.default_rng(1)
    masks = rng.random((4, 60, 60)) < 0.1
    maps = (rng.random(masks.shape) + masks * 0.3).astype(np.float32)
    expected = exact(maps, masks)["aupro"]
    errors = {most: abs(streamed(maps, masks, most=most)["aupro"] - expected) for most in (32, 512, 4096, 1 << 20)}
    assert errors[32] < 0.05 and errors[512] < 2e-3 and errors[4096] < 1e-4 and errors[1 << 20] < 1e-12


def test_thresholds_are_quantiles_of_all_pictures():
    """The small picture at the end counts as much for its size as the large ones before it."""
    thresholds = curves.Thresholds(4096)
    for level, shape in ((0, (512, 512)), (1, (512, 256)), (2, (64, 1024)), (3, (256, 256))):
        thresholds.add(level + np.random.default_rng(level).random(shape, np.float32))
    drawn = thresholds.drawn()
    assert 2048 <= drawn.size <= 4096 and (np.diff(drawn) > 0).all()
    shares = np.histogram(drawn, range(5))[0] / drawn.size
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.125, 0.125], atol=0.03)


def test_memory_does_not_grow_with_the_pictures():
    """Peak of both passes over as many pictures of 512 x 512 as a generator gives: 1 MB each."""

    def pictures(count):
        rng = np.random.default_rng(0)
        mask = np.zeros((512, 512), bool)
        mask[100:150, 200:230] = True
        for i in range(count):
            yield rng.random(mask.shape, np.float32), mask if i % 2 else ~(mask | True)

    def peak(count):
        tracemalloc.start()
        thresholds = curves.Thresholds()
        for map, _ in pictures(count):
            thresholds.add(map)
        found = curves.Curves(thresholds.drawn())
        for map, mask in pictures(count):
            found.add(map, mask)
        assert found.areas(0.3)["pixel_auroc"] == pytest.approx(0.5, abs=0.02)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(20), peak(80)
    assert many < few + 2e6 and many < 1e8
