"""`report` on made-up results: a table, plots and a page that say how every figure came about."""

import hashlib
import json
from html import unescape
from pathlib import Path

import pytest
import report_project
from report_project import run

from edge.errors import UserError
from stages.illustrate.examples import compared
from stages.report import ablation, charts, costs, figures, formatting, summary
from stages.report.formatting import significant

KEYS = {
    *("variant", "device", "status", "image_auroc", "average_precision", "f1", "pixel_auroc", "aupro", "size_bytes"),
    *("params", "macs", "latency_ms", "latency_ms_threads", "init_ms", "warmup_ms", "peak_rss_mb", "energy", "how"),
    "dataset",
}


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_rows_have_every_key_and_an_unavailable_device_has_no_figure(inside):
    rows = json.loads(Path("reports/summary.json").read_text())
    assert all(set(row) >= KEYS for row in rows) and len(rows) == 7
    gone = next(row for row in rows if row["device"] == "edgetpu")
    assert gone["status"] == "unavailable" and gone["reason"] == "no such device here"
    assert gone["energy"]["value_mj"] is None and gone["latency_ms"] is None and gone["latency_ms_threads"] == {}
    numbers = [v for v in gone.values() if isinstance(v, (int, float))]
    assert not numbers and all(how == "not measured (no such device here)" for how in gone["how"].values())
    ran = next(row for row in rows if (row["device"], row["variant"]) == ("local", "student-int8"))
    assert set(ran["latency_ms"]) == {"p50", "p90", "p99"} and set(ran["latency_ms_threads"]) == {"2"}
    assert ran["how"] == {"accuracy": "measured", "latency": "measured", "energy": "measured (rapl)"}
    board = next(row for row in rows if row["device"] == "board")
    assert board["how"]["energy"] == "estimated (power profile)"


def test_metrics_are_flat_numbers(inside):
    metrics = json.loads(Path("reports/metrics.json").read_text())
    assert list(metrics) == sorted(report_project.VARIANTS)
    assert metrics["student-int8"]["image_auroc"] == 0.966 and metrics["student-int8"]["board"]["energy_mj"] == 8.4
    assert "edgetpu" not in metrics["student-int8"]

    def leaves(value):
        return [leaf for v in value.values() for leaf in leaves(v)] if isinstance(value, dict) else [value]

    assert all(isinstance(leaf, (int, float)) for leaf in leaves(metrics))


def test_int8_files_say_how_near_they_are(inside):
    records = json.loads(Path("reports/fidelity.json").read_text())
    assert list(records) == ["student-int8"] and records["student-int8"]["exact"] == 0.9975
    for text in (Path("reports/report.md").read_text(), unescape(Path("reports/index.html").read_text())):
        assert "99.75% of the outputs equal the simulated network's, 100.00% within one step" in text
        assert "reference kernels against these: 76.00% equal" in text
        assert "42 of 43 operators on the Edge TPU, 261 kB of parameters" in text
        assert "On the CPU: RESIZE_BILINEAR: x 16 is too much" in text


@pytest.mark.slow
def test_roles_and_steps_decide_not_names(tmp_path, monkeypatch):
    """Another model, format and precision of every variant change nothing; another role and order do."""
    made = report_project.make(tmp_path, per_type=2)
    monkeypatch.chdir(tmp_path)
    run(made)
    first = digests(Path("reports"))
    other = {"model": "baseline/x", "format": "onnx", "precision": "float32"}
    run(made.model_copy(update={"variants": {k: v.model_copy(update=other) for k, v in made.variants.items()}}))
    assert digests(Path("reports")) == first
    evals = {name: summary.read_json(f"artifacts/eval/{name}.json") for name in made.variants}
    assert compared(made.variants, evals) == ["teacher-onnx", "student-int8"]
    evals["student-int8"]["how"] = "predicted (its int8 file on the CPU)"
    assert compared(made.variants, evals) == ["teacher-onnx", "pruned-fp32"]
    changed = {
        "pruned-fp32": made.variants["pruned-fp32"],
        "student-fp32": made.variants["student-fp32"].model_copy(update={"role": "baseline", "step": None}),
        "student-int8": made.variants["student-int8"].model_copy(update={"role": "teacher", "step": None}),
    }
    evals = {name: evals[name] for name in changed}
    found = ablation.record(made.model_copy(update={"variants": changed}), evals, [], {})
    assert found["order"] == ["pruned"] and found["teacher"]["image_auroc"] == 0.966
    assert compared(changed, evals) == ["student-int8", "pruned-fp32"]


def test_equal_input_gives_equal_bytes(inside):
    first = digests(Path("reports"))
    run(inside)
    assert digests(Path("reports")) == first


@pytest.mark.slow
def test_without_masks_and_without_energy(tmp_path, monkeypatch):
    made = report_project.make(tmp_path, masks=False, per_type=2)
    monkeypatch.chdir(tmp_path)
    plan = tmp_path / "hardware_runners/plan.yaml"
    plan.write_text("plan:\n  local-student-fp32: {device: local, variant: student-fp32}\n")
    run(made)
    rows = json.loads(Path("reports/summary.json").read_text())
    assert [row["device"] for row in rows] == [None, "local", None, None] and rows[0]["image_auroc"] == 0.991
    assert rows[0]["aupro"] is None and rows[0]["latency_ms"] is None
    assert "aupro" not in json.loads(Path("reports/metrics.json").read_text())["teacher-onnx"]
    energy = Path("reports/figures/energy.csv").read_text()
    assert energy.splitlines()[1:] == ["student-fp32,local,,not measured (no energy source for this device)"]
    html, text = Path("reports/index.html").read_text(), Path("reports/report.md").read_text()
    assert "not measured (no energy source for this device)" in html
    assert "| student-int8 | 0.966 | 0.956 | 0.910 | \u2013 | \u2013 | 1.70 MB" in text
    plan.write_text("plan: {}\n")
    run(made)
    text = Path("reports/report.md").read_text()
    assert "not measured (no device in the plan)" in text and "No device is in the plan, so no verdict" in text
    assert Path("reports/figures/energy.csv").read_text().count("\n") == 1 and Path("reports/plots/energy.png").exists()


def test_an_emulated_device_is_marked_and_never_plotted_as_latency(tmp_path, monkeypatch):
    made = report_project.make(tmp_path, per_type=2)
    monkeypatch.chdir(tmp_path)
    shown = []
    for module, name in ((charts, "accuracy_latency"), (costs, "latency")):
        drawn = getattr(module, name)
        monkeypatch.setattr(module, name, lambda rows, color, drawn=drawn: shown.extend(rows) or drawn(rows, color))
    for item in report_project.BOARD:
        path = tmp_path / f"artifacts/bench/{item}.json"
        report_project.write(path, {**json.loads(path.read_text()), "how": "emulated"})
    run(made)
    assert shown and not [row for row in shown if row["device"] == "board"]
    rows = [row for row in json.loads(Path("reports/summary.json").read_text()) if row["device"] == "board"]
    assert rows and all(row["how"]["latency"] == "emulated" for row in rows)
    html = Path("reports/index.html").read_text()
    assert '<span class="how emulated">' in html and "board</span>: no latency (emulated), so no verdict" in html
    assert "board" not in Path("reports/metrics.json").read_text()


@pytest.mark.slow
def test_test_pictures_of_one_kind_have_no_auroc_but_a_report(tmp_path, monkeypatch):
    made = report_project.make(tmp_path, types=(), per_type=4)
    monkeypatch.chdir(tmp_path)
    for name in made.variants:
        path = tmp_path / f"artifacts/eval/{name}.json"
        nothing = dict.fromkeys(("image_auroc", "average_precision", "f1", "pixel_auroc", "aupro"))
        report_project.write(path, json.loads(path.read_text()) | nothing | {"per_defect": {}})
    run(made)
    text = Path("reports/report.md").read_text()
    assert (
        "no image AUROC, since the test pictures are all good or all defects" in text and "No defect was missed" in text
    )
    assert "per_defect" not in text and "What each step" not in text


def test_what_a_user_can_cause_is_one_line(tmp_path, monkeypatch):
    made = report_project.make(tmp_path, per_type=2)
    monkeypatch.chdir(tmp_path)
    bench = tmp_path / "artifacts/bench/local-teacher-onnx.json"
    kept = bench.read_text()
    bench.unlink()
    with pytest.raises(UserError, match=r"local-teacher-onnx\.json: not found"):
        run(made)
    bench.write_text(kept)
    kept = figures.DEFECTS.read_bytes()
    figures.DEFECTS.unlink()
    with pytest.raises(UserError, match=r"defects\.png: not found"):
        run(made)
    figures.DEFECTS.write_bytes(kept)
    (tmp_path / "artifacts/eval/teacher-onnx.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        run(made)
    (tmp_path / "hardware_runners/plan.yaml").write_text("plan:\n  a: {device: local, variant: absent}\n")
    with pytest.raises(UserError, match="absent is not in params"):
        summary.read_benches(made.variants)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.01234, "0.0123"),
        (9.1, "9.10"),
        (123.4, "123"),
        (999.6, "1,000"),
        (12345, "12,300"),
        (0, "0.00"),
        (None, "\u2013"),
    ],
)
def test_three_significant_digits(value, text):
    assert significant(value) == text


def test_what_rounds_up_to_the_next_unit_has_it():
    assert formatting.count(999_563_264) == "1.00 G" and formatting.size(999_700) == "1.00 MB"
    assert formatting.count(999_400_000) == "999 M" and formatting.size(999_400) == "999 kB"
