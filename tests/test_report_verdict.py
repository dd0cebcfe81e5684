"""What the report recommends and shows of it: the verdict on each device, the gallery of one variant's errors."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.common.dataset import Item
from stages.illustrate import gallery
from stages.report.verdict import TIE, verdicts


def result(variant: str, auroc: float | None, p50: float, device: str = "pi", **changes) -> dict:
    how = {"accuracy": "measured", "latency": "measured", "energy": "not measured (no meter)"}
    found = {"variant": variant, "device": device, "status": "ok", "image_auroc": auroc, "aupro": None}
    found |= {"latency_ms": {"p50": p50, "p90": p50 * 1.2, "p99": p50 * 2}, "size_bytes": 1000, "how": how}
    return found | changes


@pytest.mark.parametrize(
    ("budget", "variant"),
    [(None, "large"), (100, "large"), (20, "large"), (19.9, "middle"), (8, "middle"), (7.9, "small"), (1, None)],
)
def test_the_best_within_the_budget(budget, variant):
    """p99 counts: 20, 8 and 2 ms."""
    results = [result("large", 0.99, 10), result("small", 0.9, 1), result("middle", 0.97, 4)]
    (found,) = verdicts(results, budget)
    assert found["device"] == "pi" and found["variant"] == variant
    if variant is None:
        assert found["text"] == "no variant keeps within 1 ms; the nearest is small (p99 2.00 ms)"


def test_what_test_pictures_cant_tell_apart_is_decided_by_latency():
    near = [result("slow", 0.99, 10), result("fast", 0.99 - 0.9 * TIE, 1), result("worse", 0.99 - 1.1 * TIE, 0.5)]
    assert verdicts(near, None)[0]["variant"] == "fast"


def test_each_device_has_its_own_verdict_or_the_reason_why_it_has_none():
    emulated = {"how": {"accuracy": "measured", "latency": "emulated", "energy": "not measured (emulated)"}}
    absent = {"how": dict.fromkeys(("accuracy", "latency", "energy"), "not measured (no such device)")}
    predicted = {"how": {"accuracy": "predicted (its int8 file)", "latency": "measured", "energy": "measured (rapl)"}}
    results = [
        result("a", 0.9, 1, "one"),
        result("b", 0.95, 1, "two", **predicted),
        result("a", 0.9, 1, "board", **emulated),
        result("a", None, 1, "gone", status="unavailable", latency_ms=None, **absent),
        result("a", None, 1, "plain"),
        {"variant": "c", "device": None, "status": "no device"},
    ]
    found = {one["device"]: (one["variant"], one["text"]) for one in verdicts(results, 5)}
    assert found["one"] == ("a", "AUROC 0.900, p50 1.00 ms, p99 2.00 ms, 1.00 kB")
    assert found["two"][0] == "b" and found["two"][1].startswith("AUROC 0.950 (predicted), ")
    assert found["board"] == (None, "no latency (emulated), so no verdict")
    assert found["gone"] == (None, "no latency (not measured (no such device)), so no verdict")
    assert found["plain"][0] is None and "no image AUROC" in found["plain"][1]
    assert list(found) == ["one", "two", "board", "gone", "plain"]
    assert verdicts([], 5) == []


def pictures(defects: str, scores: list[float], groups: str | None = None) -> tuple[dict, dict]:
    """One of a letter for each: g is good; the scores and the index of the pictures."""
    paths = [f"{i}.png" for i in range(len(scores))]
    items = {
        path: Item(path, "test", int(letter != "g"), letter, "", "", group)
        for path, letter, group in zip(paths, defects, groups or paths, strict=True)
    }
    return {"path": np.array(paths), "score": np.array(scores, np.float32)}, items


def test_the_gallery_has_the_worst_errors_and_typical_hits():
    """Threshold 0.5, which itself is good; hits are those next to the median of their type, types in turn."""
    found, items = pictures("ggggaaaaabb", [0.1, 0.9, 0.5, 0.6, 0.2, 0.5, 0.6, 0.7, 0.9, 0.8, 0.51])
    chosen = gallery.choose(found, items, 0.5, 3)
    assert chosen["alarms"] == [1, 3] and chosen["misses"] == [4, 5]
    assert chosen["hits"] == [7, 9, 6]
    assert gallery.choose(found, items, 2.0, 2) == {"misses": [4, 5], "alarms": [], "hits": []}


def test_the_gallery_shows_one_of_each_clip():
    found, items = pictures("aaaagg", [0.1, 0.2, 0.3, 0.4, 0.8, 0.9], "xxyyzz")
    assert gallery.choose(found, items, 0.5, 6) == {"misses": [0, 2], "alarms": [5], "hits": []}


@pytest.mark.parametrize(("shape", "tile"), [((40, 40), (176, 176)), ((30, 60), (88, 176)), ((800, 200), (176, 44))])
def test_a_strip_is_picture_map_and_contour(shape, tile):
    """The truth is outlined on the picture alone, what stands out in the map on the third; the map turns warm above
    the threshold, which is half-way between the ends of its colours."""
    height, width = shape
    image, mask, map = np.full((*shape, 3), 100, np.uint8), np.zeros(shape, bool), np.zeros((16, 16), np.float32)
    mask[: height // 2, : width // 2] = True
    map[:8, :8] = 1
    strip = gallery.strip(image, mask, map, (0.0, 1.6))
    h, w = tile
    assert strip.shape == (h, 3 * w + 2 * gallery.GAP, 3)
    first, second, third = (strip[:, i * (w + gallery.GAP) :][:, :w].astype(int) for i in range(3))
    assert (first[-1, -1] == 100).all() and (third[-1, -1] == 100).all()
    truth, warm = np.abs(first - gallery.TRUTH).sum(-1) < 60, second[..., 0] > second[..., 2]
    outlined = np.abs(third - gallery.FOUND).sum(-1) < 60
    assert truth.any() and outlined.any() and not (np.abs(third - gallery.TRUTH).sum(-1) < 60).any()
    assert warm[: h // 3, : w // 3].all() and not warm[2 * h // 3 :, 2 * w // 3 :].any()


def test_the_gallery_is_of_the_variant_of_the_verdict(inside):
    text = Path("reports/report.md").read_text()
    assert "- local: **pruned-fp32**, AUROC 0.968" in text and "## Gallery: pruned-fp32" in text
    found = json.loads(Path("artifacts/eval/pruned-fp32.json").read_text())
    rows = [line.split(",") for line in Path("reports/figures/gallery.csv").read_text().splitlines()[1:]]
    assert {float(row[4]) for row in rows} == {found["threshold"]}
    for group, _, defect, score, threshold, file in rows:
        assert (float(score) > float(threshold)) == (group != "misses") and (defect == "good") == (group == "alarms")
        assert cv2.imread(f"reports/figures/{file}") is not None and f"](figures/{file})" in text
