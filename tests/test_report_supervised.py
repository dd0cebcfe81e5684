"""What the report shows of a supervised detector: its table, figures and notes; nothing of others."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import one_line

from edge.errors import UserError
from experiments import supervised as published
from stages.common import verdicts
from stages.report import supervised, training

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def evals():
    """The results of one supervised variant and of one other."""
    labels = np.array([0] * 6 + [1] * 4, np.int8)
    scores = np.array([0.02, 0.04, 0.08, 0.12, 0.22, 0.4, 0.18, 0.48, 0.7, 0.9], np.float32)
    found = {"threshold": 0.45, "threshold_method": "best F1 of some", "iou": 0.4321, "masks": 4}
    rows = verdicts.table(labels, scores)
    return {
        "sharp-int8": found | {"validation": {"auroc": 0.9, "thresholds": rows}, "verdicts": rows},
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
    drawn = training.CURVES / "baseline-sharp/explanation.png"
    drawn.parent.mkdir(parents=True)
    cv2.imwrite(str(drawn), np.zeros((4, 4, 3), np.uint8))
    (here / "out").mkdir()
    found = supervised.draw(variants, evals, here / "out")
    assert list(found) == ["supervised", "explanation"] and set(found) <= set(supervised.HEADINGS)
    first = (here / "out/supervised.png").read_bytes()
    assert cv2.imread("out/supervised.png").std() > 10 and (here / "out/explanation.png").exists()
    drawn.unlink()
    assert list(supervised.draw(variants, evals, here / "out")) == ["supervised"]
    assert (here / "out/supervised.png").read_bytes() == first


def test_without_a_supervised_variant_there_is_nothing(evals, here):
    others = {name: found for name, found in evals.items() if name != "sharp-int8"}
    assert supervised.section(others)["rows"] == [] and supervised.draw({}, others, here) == {}


def test_a_published_record_is_rendered_with_how_it_was_made(evals, here):
    one = evals["sharp-int8"] | {"image_auroc": 0.9, "f1": 0.857, "precision": 1.0, "recall": 0.75, "pixel_auroc": 0.8}
    one |= {"aupro": None, "size_bytes": 500_000, "params": 300_000, "macs": 2e8}
    one |= {"fidelity": {"exact": 1.0, "kernel": "XNNPACK"}}
    run = {
        "seed": 0,
        "variants": {"sharp-int8": one},
        "thresholds": {"sharp-int8": one["validation"]["thresholds"]},
        "detectors": {"sharp": {"epoch": 3, "shown": 20, "defects": 14, "marked": 9, "good": 40, "alpha": 0.74}},
    }
    record = {
        "runs": [run],
        "settings": {"sharp": {"epochs": 9, "weights": "a-net"}},
        "data": {"grouped": False, "split": {"train": {"good": 40, "dent": 14}, "test": {"good": 6, "dent": 4}}},
        "input": 64,
        "code": {"commit": "1a2b3c4d", "clean": True, "stages": "x", "edge": "y"},
    }
    (here / "supervised.json").write_text(json.dumps(record))
    text = published.markdown(here)
    assert "| sharp-int8 | 0.900 | 0.857 | 1.000 | 0.750 | 0.432 | 0.800 |" in text
    assert "| sharp-int8 | 0.45 (chosen) | 1.000 | 0.750 | 0.857 | 3 | 1 | 0 | 6 |" in text
    assert "train 14 dent, 40 good; test 4 dent, 6 good, drawn at random by type." in text
    assert "a-net, 64 px, epoch 3 of 9; 14 defects, 9 of them with a mask, shown as 20, beside 40 good" in text
    assert "100.00% of the int8 outputs equal" in text and text.endswith("- Commit 1a2b3c4.")
    again = run | {"seed": 1, "variants": {"sharp-int8": one | {"image_auroc": 0.96}}}
    (here / "supervised.json").write_text(json.dumps(record | {"runs": [run, again]}))
    text = published.markdown(here)
    assert "| sharp-int8 | 0.930 ± 0.042 | 0.857 ± 0.000 |" in text
    assert "Seeds 0, 1: mean and standard deviation" in text and "epoch 3, 3 of 9" in text


def test_runs_that_differ_in_more_than_their_seeds_are_refused(monkeypatch):
    def one_run(folder, _):
        return {"seed": int(folder.name), "variants": {}, "thresholds": {}, "detectors": {}, "input": len(folder.parts)}

    monkeypatch.setattr(published, "one_run", one_run)
    found = published.record([], [Path("0"), Path("1")])
    assert [run["seed"] for run in found["runs"]] == [0, 1] and found["input"] == 1
    with pytest.raises(UserError, match=r"^a/1: differs from 0 in input; give runs of other seeds") as error:
        published.record([], [Path("0"), Path("a/1")])
    one_line(error)
    with pytest.raises(UserError, match=r"^a/1: its seed is given twice"):
        published.record([], [Path("b/1"), Path("a/1")])
