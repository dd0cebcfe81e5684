"""Pixel figures say at which resolution they were computed, in every table and file."""

import json
from html import unescape
from pathlib import Path

import pytest
import report_project

from stages.report import ablation, summary, tables


def test_pixel_figures_say_their_resolution(inside):
    """In every table and file, beside the figure."""
    text, html = Path("reports/report.md").read_text(), unescape(Path("reports/index.html").read_text())
    assert "| Pixel AUROC (full) | AUPRO (full) | Size |" in text and "| Step | AUROC | AUPRO (full) | Size |" in text
    assert html.count("<th>AUPRO (full)</th>") == 2 and "<th>Pixel AUROC (full)</th>" in html
    for page_text in (text, html):
        assert "Pixel AUROC and AUPRO at full resolution: maps resized to each picture's own size" in page_text
        assert "the model's input" not in page_text
    metrics = json.loads(Path("reports/metrics.json").read_text())["student-int8"]
    assert metrics["aupro_full"] == 0.87 and metrics["pixel_auroc_full"] == 0.95
    assert not {"aupro", "pixel_auroc"} & metrics.keys(), "dvc metrics diff would compare them with older ones"
    rows = json.loads(Path("reports/summary.json").read_text())
    assert all(row["pixel_resolution"] == ("full" if row["status"] == "ok" else None) for row in rows)
    found = json.loads(Path("reports/ablation.json").read_text())
    assert found["settings"]["evaluate"] == {"aupro_fpr_limit": 0.3, "resolution": "full"}
    assert found["teacher"]["pixel_resolution"] == "full"


def evaluations() -> dict:
    """Of three variants at different resolutions: the oldest doesn't say it, the last one has no masks."""
    found = json.loads(Path("artifacts/eval/student-int8.json").read_text())
    old = {key: value for key, value in found.items() if key != "pixel_resolution"} | {"variant": "old", "aupro": 0.9}
    bare = found | {"variant": "bare", "aupro": None, "pixel_auroc": None}
    return {"old": old, "new": found | {"variant": "new"}, "bare": bare}


def test_figures_of_different_resolution_are_never_mixed_unsaid(inside):
    evals = evaluations()
    assert tables.accuracy_head(evals) == tables.ACCURACY_HEAD
    rows = tables.accuracy_rows(evals)
    cells = {row["variant"]: dict(zip(tables.ACCURACY_HEAD, row["plain"], strict=True)) for row in rows}
    assert [cells[name]["AUPRO"] for name in evals] == ["0.900 (model)", "0.870 (full)", "\u2013"]
    assert [cells[name]["Pixel AUROC"] for name in evals] == ["0.950 (model)", "0.950 (full)", "\u2013"]
    assert not any(row["best"][tables.ACCURACY_HEAD.index("AUPRO") - 1] for row in rows)
    note = tables.accuracy_note(evals)
    assert "MVTec AD protocol) (full); at the resolution of the model's input" in note
    compact = tables.compact(summary.results(evals, {}, "demo"))
    assert "| AUPRO |" in compact and "| 0.900 (model) |" in compact and "| 0.870 (full) |" in compact


@pytest.mark.parametrize(("name", "head"), [("old", "AUPRO (model)"), ("new", "AUPRO (full)"), ("bare", "AUPRO")])
def test_figures_of_one_resolution_say_it_in_the_head(name, head, inside):
    evals = {name: evaluations()[name]}
    assert head in tables.accuracy_head(evals) and f"| {head} |" in tables.compact(summary.results(evals, {}, "demo"))
    assert ("AUPRO at" in tables.accuracy_note(evals)) == (name != "bare")
    (row,) = tables.accuracy_rows(evals)
    assert "(" not in "".join(row["plain"])


def test_the_size_of_a_result_is_that_of_the_file_that_ran(inside):
    evals = {"new": evaluations()["new"]}
    bench = json.loads(Path("artifacts/bench/local-student-int8.json").read_text()) | {"variant": "new"}
    found = summary.results(evals, {"a": bench | {"size_bytes": 12345}}, "demo")
    assert [row["size_bytes"] for row in found] == [12345] and evals["new"]["size_bytes"] == 1_700_000


def test_published_records_are_at_model_resolution():
    """They were made before there was another; the settings of each say so by leaving it out."""
    paths = sorted((report_project.ROOT / "reports/published").glob("*/s*/*.json"))
    paths = [path for path in paths if path.parent.name in ("seeds", "sweep")]
    old = [path for path in paths if "code" not in json.loads(path.read_text())]
    assert len(old) >= 20
    for record in map(ablation.read_record, old):
        assert ablation.head([record])[3] == "AUPRO (model)" and "resolution" not in record["settings"]["evaluate"]
