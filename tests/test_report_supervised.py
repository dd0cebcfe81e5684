"""What the report shows of a supervised detector: its table, figures and notes; nothing of others."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from stages.common import thresholds
from stages.report import plots, supervised

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def evals(here):
    """The results of one supervised variant and of one other."""
    labels = np.array([0] * 6 + [1] * 4, np.int8)
    scores = np.array([0.02, 0.04, 0.08, 0.12, 0.22, 0.4, 0.18, 0.48, 0.7, 0.9], np.float32)
    (here / "artifacts/eval").mkdir(parents=True)
    np.savez(here / "artifacts/eval/sharp-int8.npz", label=labels, score=scores)
    found = {"threshold": 0.45, "threshold_method": "best F1 of some", "iou": 0.4321, "masks": 4}
    rows = thresholds.table(labels, scores)
    return {
        "sharp-int8": found | {"validation": {"auroc": 0.9, "thresholds": rows}},
        "student-int8": {"threshold": 3.0, "validation": {"auroc": 0.9, "good": 1, "defects": 2}},
        "old": {"threshold": 3.0, "validation": None},
    }


def test_the_table_has_a_row_for_each_threshold(evals):
    found = supervised.section(evals)
    assert [row[1] for row in found["rows"]] == [
        "0.10", "0.15", "0.20", "0.25", "0.30", "0.35", "0.40", "0.45 (chosen)", "0.50",
    ]  # fmt: skip
    assert all(len(row) == len(found["head"]) for row in found["rows"])
    assert found["rows"][7] == ["sharp-int8", "0.45 (chosen)", "1.000", "0.750", "0.857", "3", "1", "0", "6"]
    (note,) = found["notes"]
    assert "threshold 0.45, best F1 of some" in note and "masks of 4 defects: 0.432" in note
    assert json.dumps(found["rows"]), "plain text for both templates"


def test_curves_and_explanation_are_drawn_and_repeat(evals, here):
    variants = {"sharp-int8": SimpleNamespace(model="baseline/sharp"), "student-int8": SimpleNamespace(model="qat")}
    drawn = plots.CURVES / "baseline-sharp/explanation.png"
    drawn.parent.mkdir(parents=True)
    cv2.imwrite(str(drawn), np.zeros((4, 4, 3), np.uint8))
    (here / "out").mkdir()
    found = supervised.draw(variants, evals, plots.colors(evals), here / "out")
    assert [name for name, _ in found] == ["supervised", "explanation"] and set(dict(found)) <= set(supervised.HEADINGS)
    first = (here / "out/supervised.png").read_bytes()
    assert cv2.imread("out/supervised.png").std() > 10 and (here / "out/explanation.png").exists()
    drawn.unlink()
    assert [name for name, _ in supervised.draw(variants, evals, plots.colors(evals), here / "out")] == ["supervised"]
    assert (here / "out/supervised.png").read_bytes() == first


def test_without_a_supervised_variant_there_is_nothing(evals, here):
    others = {name: found for name, found in evals.items() if name != "sharp-int8"}
    assert supervised.section(others)["rows"] == [] and supervised.draw({}, others, {}, here) == []
