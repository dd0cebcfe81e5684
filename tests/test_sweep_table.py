"""Published runs with other settings: how they are labelled, grouped, compared and shown."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import report_project
import yaml
from report_project import run

from edge.errors import UserError
from experiments import pareto, provenance, publish, readme, records, sweep_table
from stages.common import atomic, params
from stages.report import ablation, plots
from stages.report.formatting import NONE

CODE = {"commit": "a" * 40, "clean": True, "stages": "b", "edge": "c"}


@pytest.fixture(autouse=True)
def code(monkeypatch):
    """These results are of committed code."""
    monkeypatch.setattr(provenance, "of_results", lambda dirty: CODE)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The record of a real report, and the folder in which it was made."""
    root = tmp_path_factory.mktemp("sweep")
    made = report_project.make(root, per_type=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run(made)
    return root, json.loads((root / "reports/ablation.json").read_text())


@pytest.fixture
def published(record, tmp_path, monkeypatch):
    """reports/published/demo in an empty folder, with two seeds; the record that they were made from."""
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        add("seeds/x.json", record[1], seed=seed)
    return record[1]


def add(name: str, record: dict, seed: int, auroc: float | None = None, p50: float | None = None, **changes) -> dict:
    """Writes a record with other settings (section__key) and figures to the published result."""
    new = json.loads(json.dumps(record)) | {"seed": seed}
    for key, value in changes.items():
        section, _, leaf = key.partition("__")
        new["settings"][section][leaf] = value
    if auroc is not None:
        new["steps"]["int8"] |= {"image_auroc": auroc, "p50_ms": p50}
    atomic.write_json(publish.PUBLISHED / "demo" / name.replace("x", str(seed)), new)
    return new


def test_records_are_grouped_by_what_was_changed(published):
    for seed, auroc in ((0, 0.90), (1, 0.94)):
        add("sweep/narrow-x.json", published, seed, auroc, 2.0, student__width=0.5)
    add("sweep/other.json", published, 0, 0.5, 9.0, student__width=0.25, distill__mask_weight=0.0)
    found = records.by_change(publish.PUBLISHED / "demo")
    assert {name: len(runs) for name, runs in found.items()} == {
        "default": 2,
        "student.width = 0.5": 2,
        "distill.mask_weight = 0.0, student.width = 0.25": 1,
    }
    line = dict(zip(sweep_table.HEAD, sweep_table.table_rows(found)[1], strict=True))
    assert line["int8 AUROC"] == f"0.920 ± {np.std([0.90, 0.94], ddof=1):.3f}" and line["p50 ms"] == "2.00"
    assert line["Teacher AUROC"].startswith("0.991")


def test_changes_at_another_resolution_say_it(published):
    """Two older seeds that don't say it, beside a run at full resolution and one whose settings name the old one."""
    folder = publish.PUBLISHED / "demo"
    full = add("sweep/full.json", published, 0, 0.9, 2.0, student__width=0.5)
    named = add("sweep/named.json", published, 0, 0.9, 2.0, student__width=0.25, evaluate__resolution="model")
    for step in named["steps"].values():
        step["pixel_resolution"] = "model"
    atomic.write_json(folder / "sweep/named.json", named)
    assert full["settings"]["evaluate"]["resolution"] == "full"
    for path in folder.glob("seeds/*.json"):
        one = read(path)
        del one["settings"]["evaluate"]["resolution"]
        for step in one["steps"].values():
            del step["pixel_resolution"]
        atomic.write_json(path, one)
    text = sweep_table.markdown(folder)
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    found = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert found["default"]["int8 AUPRO"] == "0.870 ± 0.000 (model)"
    assert found["evaluate.resolution = full, student.width = 0.5"]["int8 AUPRO"] == "0.870 (full)"
    assert found["student.width = 0.25"]["int8 AUPRO"] == "0.870 (model)"
    assert "(full); at the resolution of the model's input" in text
    (folder / "sweep/full.json").unlink()
    text = sweep_table.markdown(folder)
    assert "| int8 AUPRO (model) |" in text and "0.870 (" not in text and "(full)" not in text


def test_the_pareto_front_is_what_brute_force_finds():
    rng = np.random.default_rng(0)
    points = [tuple(float(v) for v in p) for p in rng.integers(0, 12, (60, 2))]
    beaten = set()
    for (i, a), (_, b) in itertools.product(enumerate(points), enumerate(points)):
        if (b[0] < a[0] and b[1] >= a[1]) or (b[0] <= a[0] and b[1] > a[1]):
            beaten.add(i)
    assert pareto.non_dominated(points) == [i for i in range(len(points)) if i not in beaten]


def test_publish_puts_a_run_where_its_settings_belong(record, tmp_path, monkeypatch):
    root, made = record
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match="publish the default first"):
        publish.publish("demo", beside=True)
    publish.publish("demo")
    atomic.write_json(publish.PUBLISHED / "demo/speedup/width-1.json", {})
    publish.publish("demo")  # what is no record stays
    assert (publish.PUBLISHED / "demo/speedup/width-1.json").exists()
    with pytest.raises(UserError, match=r"has the settings of .*--seed-only"):
        publish.publish("demo", beside=True)
    other = json.loads(json.dumps(made)) | {"seed": 4}
    other["settings"]["student"]["width"] = 0.5
    monkeypatch.setattr(
        publish, "read_json", lambda path: other if str(path) == "reports/ablation.json" else read(path)
    )
    with pytest.raises(UserError, match=r"\(student.width = 0.5\); publish it with --beside"):
        publish.publish("demo", seed_only=True)
    publish.publish("demo", beside=True)
    found = [p.relative_to(publish.PUBLISHED).as_posix() for p in sorted(publish.PUBLISHED.rglob("*seed*.json"))]
    assert len(found) == 1 and found == [next(name for name in found if "demo/sweep/student.width-0.5-" in name)]
    page = Path("README.md")
    page.write_text("<!-- published:demo -->\n<!-- /published -->\n")
    with pytest.raises(UserError, match=r"no <!-- sweep:demo -->"):
        readme.run(SimpleNamespace(check=False))
    page.write_text(page.read_text() + "<!-- sweep:demo -->\n<!-- /sweep -->\n")
    readme.run(SimpleNamespace(check=False))
    assert "| student.width = 0.5 | 1 |" in page.read_text() and "\n- Commit aaaaaaa.\n" in page.read_text()
    assert "Pareto front of int8 AUROC and size: default" in page.read_text()
    assert cv2.imread(str(publish.PUBLISHED / "demo/pareto.png")).std() > 5


def read(path):
    return json.loads(Path(path).read_text())


def test_changes_of_other_code_are_marked(published):
    add("sweep/a.json", published, 0, 0.9, 2.0, student__width=0.5)
    new = add("sweep/b.json", published, 1, 0.9, 2.0, student__width=0.25)
    atomic.write_json(publish.PUBLISHED / "demo/sweep/b.json", new | {"code": CODE})
    text = sweep_table.markdown(publish.PUBLISHED / "demo")
    assert "| default † | 2 |" in text and "| student.width = 0.5 † | 1 |" in text
    assert "| student.width = 0.25 ‡ | 1 |" in text
    assert text.endswith("- Made by different code: † code not recorded; ‡ commit aaaaaaa.")


def test_runs_on_fewer_synthetic_pictures_are_no_seeds_of_each_other(record, monkeypatch):
    """Their test pictures are the same."""
    monkeypatch.chdir(record[0])
    tree = yaml.safe_load((report_project.ROOT / "params.yaml").read_text())
    evals = {"a": {"test_index_sha256": "1"}}
    fewer = {**tree["data"], "synthetic": {**tree["data"]["synthetic"], "train": 20}}
    whole, part = (ablation.settings(params.validate(tree | {"data": data}), evals) for data in (tree["data"], fewer))
    assert records.label(part, whole) == "data.synthetic.train = 20"


def test_a_run_on_other_pictures_is_refused(published):
    other = add("sweep/x.json", published, 0, 0.9, 1.0, student__width=0.5)
    other["settings"]["test_index_sha256"] = "0" * 64
    atomic.write_json(publish.PUBLISHED / "demo/sweep/0.json", other)
    with pytest.raises(UserError, match="tested on other pictures"):
        sweep_table.markdown(publish.PUBLISHED / "demo")


def test_validation_and_test_are_compared_once(published):
    """Three candidates that validation ranks as 1, 3, 2 where test says 1, 2, 3: a rank correlation of 0.5."""
    for name, width, val, test in (("a", 0.5, 0.7, 0.80), ("b", 0.75, 0.9, 0.85), ("c", 2.0, 0.8, 0.999)):
        new = add(f"sweep/{name}.json", published, 0, test, 2.0, student__width=width)
        new["steps"]["int8"]["val_auroc"] = val
        atomic.write_json(publish.PUBLISHED / f"demo/sweep/{name}.json", new)
    found = records.by_change(publish.PUBLISHED / "demo")
    found["default"][0]["steps"]["int8"]["val_auroc"] = None
    assert sweep_table.agreement(found) is None, "a run that knows nothing of validation can't be ranked"
    del found["default"]
    assert "against five families of synthetic defects" in sweep_table.agreement(found)
    assert sweep_table.agreement(found).endswith(
        "over the 3 candidates is 0.50; it would have chosen: student.width = 0.75."
    )


def former(name: str, record: dict) -> None:
    """Makes a record one of the former student: the int8 step was called QAT, and CutPaste was the validation."""
    record["steps"]["QAT"] = record["steps"].pop("int8")
    del record["steps"]["QAT"]["val_defects"]
    record["settings"]["compress"]["qat_epochs"] = 2
    atomic.write_json(publish.PUBLISHED / "demo" / name, record)


def test_records_of_the_former_student_stay_comparable(published):
    """Their int8 file counts as such; what they were validated on is another thing, which the table says."""
    folder = publish.PUBLISHED / "demo"
    former("sweep/old.json", add("sweep/old.json", published, 0, 0.7, 2.0, student__width=0.5))
    add("sweep/new.json", published, 0, 0.9, 3.0, student__width=0.25)
    text = sweep_table.markdown(folder)
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines() if line[:1] == "|"}
    old, new = rows["compress.qat_epochs = 2, student.width = 0.5"], rows["student.width = 0.25"]
    column = rows["Changed"].index("int8 AUROC"), rows["Changed"].index("int8 val AUROC")
    assert [old[i] for i in column] == ["0.700", "0.916 (CutPaste)"]
    assert [new[i] for i in column] == ["0.900", "0.916 (five families)"]
    assert "against CutPaste defects or five families of synthetic defects, which can't be compared" in text
    assert "rank correlation" not in text and "- int8: not pruned. Mean" in text
    for path in (*folder.glob("seeds/*.json"), folder / "sweep/new.json"):
        former(path.relative_to(folder).as_posix(), read(path))
    text = sweep_table.markdown(folder)
    assert "(CutPaste)" not in text and "| student.width = 0.25 | 1 | 0.991 | 0.972 | 0.900 |" in text
    assert "- int8: by quantization-aware training, not pruned. Mean" in text


@pytest.mark.parametrize("another", [{"device": "another"}, {"machine": {"cpu": "another", "int8": None}}])
def test_a_latency_of_another_device_is_not_compared(another, published, monkeypatch):
    folder = publish.PUBLISHED / "demo"
    add("sweep/a.json", published, 0, 0.5, 0.001, student__width=0.5)
    assert "student.width = 0.5" in pareto.front(records.by_change(folder), "p50_ms")
    new = add("sweep/a.json", published, 0, 0.5, 0.001, student__width=0.5) | another
    atomic.write_json(folder / "sweep/a.json", new)
    found = records.by_change(folder)
    assert pareto.front(found, "p50_ms") == ["default"]
    assert dict(zip(sweep_table.HEAD, sweep_table.table_rows(found)[1], strict=True))["p50 ms"] == NONE
    add("sweep/b.json", published, 1, 0.5, 0.003, student__width=0.5)
    assert records.cost(records.by_change(folder), "student.width = 0.5", "p50_ms") == 0.003
    (folder / "sweep/b.json").unlink()
    figures = []
    with monkeypatch.context() as patch:
        patch.setattr(pareto.plots, "save", lambda figure, path: figures.append(figure))
        pareto.draw(records.by_change(folder), folder / "pareto.png")
    key = [text.get_text().split(maxsplit=1) for text in figures[0].legends[0].get_texts()]
    assert key == [["1", "default"], ["2", "student.width = 0.5"]]
    for axes in figures[0].axes:  # the panel of the size has a point more, which both have room for
        assert axes.get_ylim()[0] < 0.5 < published["steps"]["int8"]["image_auroc"] < axes.get_ylim()[1]
    for path in folder.glob("seeds/*.json"):
        one = read(path)
        one["steps"]["int8"]["p50_ms"] = None
        atomic.write_json(path, one)
    pareto.draw(records.by_change(folder), folder / "pareto.png")  # nothing was timed: one panel says so
    assert cv2.imread(str(folder / "pareto.png")).std() > 5


def test_no_label_lies_on_a_line_of_the_front():
    """Nor on the deviation of a point, which is drawn beside it."""
    figure, axes = plots.plt.subplots()
    axes.set(xlim=(0, 4), ylim=(0, 4))
    lines = [(2, 1, 2, 3), (0, 2, 2, 2)]
    plots.place_labels(figure, axes, [(2, 2, 2, "a"), (2, 2, 1, "b")], lines)
    found = [text.get_window_extent() for text in axes.texts]
    for left, low, right, high in lines:
        (x0, y0), (x1, y1) = axes.transData.transform([(left, low), (right, high)])
        assert all(box.x1 < x0 or x1 < box.x0 or box.y1 < y0 or y1 < box.y0 for box in found)
    assert len(found) == 2
    plots.plt.close(figure)


def test_what_has_no_int8_file_is_refused_before_anything_is_written(record, monkeypatch):
    monkeypatch.chdir(record[0])
    publish.publish("bare")
    for path in (publish.PUBLISHED / "bare").glob("seeds/*.json"):
        one = read(path)
        del one["steps"]["int8"]
        one["settings"]["student"]["width"] = 2.0
        atomic.write_json(path, one)
    before = sorted((publish.PUBLISHED / "bare").rglob("*"))
    with pytest.raises(UserError, match=r"seeds/0\.json: has no AUROC of a variant with the step int8"):
        publish.publish("bare", beside=True)
    assert sorted((publish.PUBLISHED / "bare").rglob("*")) == before


def test_a_record_named_after_an_older_default_is_replaced(record, monkeypatch):
    root, made = record
    monkeypatch.chdir(root)
    publish.publish("moved")
    folder = publish.PUBLISHED / "moved"
    for path in folder.glob("seeds/*.json"):
        one = read(path)
        one["settings"]["student"]["width"] = 2.0
        atomic.write_json(path, one)
    atomic.write_json(folder / "sweep/old-name.json", made)
    publish.publish("moved", beside=True)
    assert [path.name.partition("-")[0] for path in folder.glob("sweep/*.json")] == ["student.width"]
