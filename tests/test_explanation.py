"""What explains a supervised verdict: Otsu's threshold against its definition, the fallback, what is drawn."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge.geometry import Geometry
from stages.baseline import explanation
from stages.common.dataset import Item


def otsu_by_definition(steps: np.ndarray) -> int:
    """The threshold of the largest variance between the classes, tried one by one."""
    best, found = -1.0, 0
    for threshold in range(256):
        low, high = steps[steps <= threshold], steps[steps > threshold]
        if len(low) and len(high):
            between = len(low) * len(high) * (low.mean() - high.mean()) ** 2
            if between > best + 1e-6:
                best, found = between, threshold
    return found


@pytest.mark.parametrize("seed", range(3))
def test_otsu_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(10, 2, (40, 40))
    values[8:14, 20:32] += 15
    steps = np.round((values - values.min()) / np.ptp(values) * 255).astype(np.uint8)
    region = explanation.otsu(values.astype(np.float32))
    assert np.array_equal(region, steps > otsu_by_definition(steps))
    assert region[8:14, 20:32].all() and region.sum() < 1.2 * 6 * 12
    assert not explanation.otsu(np.ones((8, 8), np.float32)).any()


def spotted():
    sample = np.full((96, 96, 3), 120, np.uint8)
    sample[30:42, 50:64] = 30
    return sample


def test_saliency_explains_where_it_marks_something():
    saliency = np.zeros((96, 96), np.float32)
    saliency[60:70, 10:20] = 1
    region, by = explanation.explain(saliency, spotted())
    assert by == "saliency" and region[62:68, 12:18].all() and not region[30:42, 50:64].any()


@pytest.mark.parametrize("saliency", [np.zeros((96, 96)), np.pad(np.zeros((2, 2)), 47, constant_values=1.0)])
def test_intensity_explains_where_saliency_marks_nothing_or_all(saliency):
    region, by = explanation.explain(saliency, spotted())
    assert by == "intensity" and region[30:42, 50:64].all() and region.sum() == 12 * 14


def test_intensity_takes_the_last_frame_of_a_clip():
    clip = np.full((96, 96, 5), 120, np.uint8)
    clip[10:20, 10:20, 0] = 0
    clip[40:50, 40:50, 4] = 0
    found = explanation.intensity_difference(clip)
    assert found[45, 45] == 120 and found[15, 15] == 0


def test_a_column_for_each_of_some_defects(tmp_path):
    mask = np.zeros((200, 150), np.uint8)
    mask[60:90, 80:100] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    items = [Item(f"{i}.png", "val", 1, "spot", "m.png" if i else "", "", f"{i}") for i in range(9)]
    detector = SimpleNamespace(saliency=lambda sample: (sample[:, :, 0] < 100).astype(np.float32))
    samples = np.stack([spotted()] * 9)
    explanation.write(detector, samples, items, tmp_path, Geometry(96, 96), tmp_path / "out/explanation.png")
    drawn = cv2.imread(str(tmp_path / "out/explanation.png"))
    assert drawn.shape == (3 * (explanation.CELL + 4), explanation.COUNT * (explanation.CELL + 4), 3)
    first, second = drawn[:196, :196], drawn[:196, 196:392]
    outline = np.array(explanation.TRUTH)
    assert not (first == outline).all(2).any() and (second == outline).all(2).any(), "the first has no mask"
    assert (drawn[2 * 196 :] == np.array(explanation.FOUND)).all(2).any()
    explanation.write(detector, samples, items, tmp_path, Geometry(96, 96), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out/explanation.png").read_bytes()


def test_a_letterboxed_mask_lies_where_the_sample_shows_it(tmp_path):
    """Of a picture 50 x 200 the sample 96 x 192 has the upper half, and the rest mirrors it."""
    mask = np.zeros((50, 200), np.uint8)
    mask[10:20, 20:60] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    geometry = Geometry(96, 192, "letterbox")
    picture = np.repeat(mask[:, :, None], 3, 2) // 2
    samples = geometry.sample(picture)[None]
    detector = SimpleNamespace(saliency=lambda sample: (sample[:, :, 0] > 60).astype(np.float32))
    explanation.write(
        detector, samples, [Item("0.png", "val", 1, "spot", "m.png", "", "0")], tmp_path, geometry, tmp_path / "e.png"
    )
    drawn = cv2.imread(str(tmp_path / "e.png"))
    assert drawn.shape == (3 * (96 + 4), 192 + 4, 3)
    rows, columns = np.nonzero((drawn[2:98, 2:194] == np.array(explanation.TRUTH)).all(2))
    first = rows < 48
    assert abs(rows[first].min() - 9.6) < 2 and abs(rows[first].max() - 19.2) < 2
    assert abs(columns.min() - 19.2) < 2 and abs(columns.max() - 57.6) < 2
