"""`report` on made-up results: a table, plots and a page that say how every figure came about."""

import hashlib
import json
import os
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import report_project
import yaml

from edge.errors import UserError
from stages.common import params
from stages.report import ablation, dependencies, page, plots, summary, tables
from stages.report.__main__ import run
from stages.report.examples import choose, compared
from stages.report.formatting import significant

KEYS = {
    *("variant", "device", "status", "image_auroc", "average_precision", "f1", "pixel_auroc", "aupro", "size_bytes"),
    *("params", "macs", "latency_ms", "latency_ms_threads", "init_ms", "warmup_ms", "peak_rss_mb", "energy", "how"),
    "dataset",
}


class Links(HTMLParser):
    """Collects what a page would load."""

    def __init__(self, text):
        super().__init__()
        self.images, self.others = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "poster", "action"):
                (self.images if tag == "img" else self.others).append(value)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder in which `report` ran once."""
    root = tmp_path_factory.mktemp("project")
    made = report_project.make(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run(made)
    return root, made


@pytest.fixture
def inside(project, monkeypatch):
    monkeypatch.chdir(project[0])
    return project[1]


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


def test_the_page_holds_everything_it_shows(inside):
    html = Path("reports/index.html").read_text()
    links = Links(html)
    plots = {path.stem for path in Path("reports/plots").iterdir()}
    assert plots == {
        "accuracy_latency",
        "size",
        "per_defect",
        "examples",
        "latency",
        "energy",
        "curves",
        "defects",
        "ablation",
    }
    assert len(links.images) == len(plots) and all(image.startswith("data:image/png;base64,") for image in links.images)
    assert not links.others and "http" not in html.split("<body>")[0]
    assert "url(" not in html and "<script" not in html and 'name="viewport"' in html
    assert "unavailable: no such device here" in html and "Made-up CPU" in html
    for how in ("measured", "estimated", "not-measured"):
        assert f'class="how {how}"' in html


def test_int8_files_say_how_near_they_are(inside):
    records = json.loads(Path("reports/fidelity.json").read_text())
    assert list(records) == ["student-int8"] and records["student-int8"]["exact"] == 0.9975
    for text in (Path("reports/report.md").read_text(), unescape(Path("reports/index.html").read_text())):
        assert "99.75% of the outputs equal the simulated network's, 100.00% within one step" in text
        assert "reference kernels against these: 76.00% equal" in text
        assert "42 of 43 operators on the Edge TPU, 261 kB of parameters" in text
        assert "On the CPU: RESIZE_BILINEAR: x 16 is too much" in text


def test_ablation_of_one_run(inside):
    found = json.loads(Path("reports/ablation.json").read_text())
    bench = json.loads(Path("artifacts/bench/local-student-int8.json").read_text())
    assert found["seed"] == 0 and set(found["steps"]) == {"float", "pruned", "int8"}
    assert found["steps"]["int8"] == {
        **{"variant": "student-int8", "image_auroc": 0.966, "aupro": 0.87, "size_bytes": 1_700_000, "params": 425_000},
        **{"macs": 51_000_000, "p50_ms": bench["latency_ms"]["p50"], "val_auroc": 0.916, "pixel_resolution": "full"},
        "val_defects": "families",
    }
    assert found["device"] == "local" and found["machine"] == {"cpu": "Made-up CPU", "int8": "asimddp"}
    text, html = Path("reports/report.md").read_text(), Path("reports/index.html").read_text()
    assert "| student-fp32 | float | 0.972 | 0.870 | 9.20 MB |" in text and "One seed" in html
    assert text.index("| float |") < text.index("| int8 |") < text.index("| pruned |")
    assert found["order"] == ["float", "int8", "pruned"]
    assert "Int8: ranges calibrated, biases corrected; memory banks" in text and "QAT" not in text


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


def nothing_pruned(**figures):
    """The pruned file is the student's but for some figures of its evaluation."""
    student = json.loads(Path("artifacts/eval/student-fp32.json").read_text())
    report_project.write(Path("artifacts/eval/pruned-fp32.json"), student | {"variant": "pruned-fp32"} | figures)


@pytest.mark.slow
def test_latencies_of_one_table_are_of_one_device(tmp_path, monkeypatch):
    """The first device that ran every step; none where they share no device."""
    made = report_project.make(tmp_path, per_type=2)
    monkeypatch.chdir(tmp_path)
    plan = tmp_path / "hardware_runners/plan.yaml"
    tree = yaml.safe_load(plan.read_text())
    del tree["plan"]["local-student-fp32"], tree["plan"]["local-pruned-fp32"]
    plan.write_text(yaml.safe_dump(tree, sort_keys=False))
    run(made)
    found = json.loads(Path("reports/ablation.json").read_text())
    assert found["device"] is None and {step["p50_ms"] for step in found["steps"].values()} == {None}
    assert "latency on one thread" not in Path("reports/report.md").read_text()
    nothing_pruned()
    run(made)
    assert json.loads(Path("reports/ablation.json").read_text())["device"] == "board"
    assert "latency on one thread measured on board" in Path("reports/report.md").read_text()


@pytest.mark.slow
def test_a_step_that_changed_nothing_is_left_out(tmp_path, monkeypatch):
    """With prune_ratio 0 `compress` writes the student again; its evaluation is the same to the last digit."""
    made = report_project.make(tmp_path, per_type=2)
    monkeypatch.chdir(tmp_path)
    nothing_pruned()
    run(made)
    found = json.loads(Path("reports/ablation.json").read_text())
    assert found["order"] == ["float", "int8"] and set(found["steps"]) == {"float", "int8"}
    assert "| pruned-fp32 | pruned |" not in Path("reports/report.md").read_text()
    nothing_pruned(f1=0.5)
    run(made)
    assert "| pruned-fp32 | pruned |" in Path("reports/report.md").read_text()


def test_a_student_that_stays_what_it_starts_as_keeps_its_steps(inside):
    """The int8 file then equals that of the start, as the pruned one equals the float one where nothing is pruned."""
    found = json.loads(Path("artifacts/eval/student-int8.json").read_text())
    steps = {"a": "start", "b": "float", "c": "int8", "d": "pruned + int8"}
    variants = {name: SimpleNamespace(step=step) for name, step in steps.items()}
    evals = {name: found | {"variant": name} for name in variants} | {"b": found | {"variant": "b", "f1": 0.5}}
    assert ablation.variants_by_step(variants, evals) == {"start": "a", "float": "b", "int8": "c"}


def test_the_notes_say_how_each_record_was_made():
    """A record of the former steps keeps its words."""
    former = ablation.read_record(report_project.ROOT / "reports/published/mtd/seeds/0.json")
    assert ablation.step_notes([former])[:2] == [
        "PTQ: ranges of 64 training pictures, half with pasted defects.",
        "QAT: 2 epochs.",
    ]
    steps = {"start": former["steps"]["PTQ"], "int8": former["steps"]["QAT"]}
    for epochs, how in ((0, "ranges calibrated, biases corrected"), (3, "3 epochs with fake quantization")):
        now = {"settings": {"compress": {"qat_epochs": epochs}}, "steps": steps}
        found = ablation.step_notes([now])
        assert found[0].startswith("Start: ") and found[1].startswith(f"Int8: {how}; ") and len(found) == 2


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


@pytest.mark.slow
def test_ablation_over_published_seeds(tmp_path, monkeypatch):
    """Mean and standard deviation of the runs that differ in nothing but their seed, against numpy."""
    made = report_project.make(tmp_path, per_type=2)
    monkeypatch.chdir(tmp_path)
    run(made)
    this = json.loads(Path("reports/ablation.json").read_text())
    values = [0.972, 0.95, 0.99]
    for seed, value in enumerate(values[1:], 1):
        other = json.loads(json.dumps(this)) | {"seed": seed}
        other["steps"]["float"]["image_auroc"] = value
        if seed == 2:
            other["code"] = {"commit": "1a2b3c4d" * 5, "clean": False, "stages": "0", "edge": "1"}
        report_project.write(tmp_path / f"reports/published/demo/seeds/{seed}.json", other)
    for seed, section, change in (
        (3, "compress", {"prune_ratio": 0.9}),
        (4, "compile", {"smooth": 5}),
        (5, "teacher", {"backbone": "another"}),
        (6, "test_index_sha256", "other pictures"),
    ):
        other = json.loads(json.dumps(this)) | {"seed": seed}
        other["settings"][section] = {**other["settings"][section], **change} if isinstance(change, dict) else change
        report_project.write(tmp_path / f"reports/published/other/seeds/{seed}.json", other)
    run(made)
    text = Path("reports/report.md").read_text()
    assert f"| float | {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} | 0.870 ± 0.000 |" in text
    assert "Seeds 0, 1, 2: mean ± standard deviation" in text
    assert "All seeds but 0 are published results (reports/published/demo; " in text
    assert "code not recorded, commit 1a2b3c4 with uncommitted changes)." in text


def test_networks_are_told_apart_by_name_not_by_where_they_lie(inside):
    tree = yaml.safe_load((report_project.ROOT / "params.yaml").read_text())
    found = []
    places = ("/x/resnet-18", "/y/mobilenet-v2-1.0-224"), ("a/resnet-18", "b/mobilenet_v2_1.0_224"), ("/x/r-50", "b/c")
    for backbone, init in places:
        changed = {"teacher": {**tree["teacher"], "backbone": backbone}, "student": {**tree["student"], "init": init}}
        found.append(ablation.settings(params.validate(tree | changed)))
    assert found[0] == found[1] and "/" not in json.dumps(found)
    assert found[0]["teacher"] != found[2]["teacher"] and found[0]["student"] != found[2]["student"]


ONE_TILE = {"height": None, "width": None, "fit": "stretch", "tiles": {"rows": 1, "columns": 1, "overlap": 32}}
AT_DEFAULT = {"input": {"color": "rgb", "frames": 1, "step": 1, "depth": None, **ONE_TILE}, "data": {"group": None}}
AT_DEFAULT |= {"distill": {"train_trunk": True}, "evaluate": {"resolution": "model"}}


def test_a_key_at_its_default_is_left_out_of_the_settings(inside):
    """One rule for all of them: a record that is older than a key is comparable, whatever the others are."""
    known = {name: keys for name, keys in ablation.defaults().items() if keys}
    assert known["input"].pop("size") is None and known == AT_DEFAULT  # but a size or two sides are named
    tree = yaml.safe_load((report_project.ROOT / "params.yaml").read_text())

    def settings(**changes):
        return ablation.settings(params.validate(tree | {name: tree[name] | keys for name, keys in changes.items()}))

    plain = settings(**AT_DEFAULT)
    assert plain["input"] == {"size": 128} and plain["evaluate"] == {"aupro_fpr_limit": 0.3}
    assert "group" not in plain["data"] and plain["data"]["val_fraction"] == 0.15
    grey = settings(**AT_DEFAULT | {"input": {"color": "grey", "frames": 1, "step": 1, "depth": 12}})
    assert grey == plain | {"input": {"size": 128, "color": "grey", "depth": 12}}
    clip = settings(**AT_DEFAULT | {"input": {"color": "grey", "frames": 4, "step": 1, "depth": None}})
    assert clip == plain | {"input": {"size": 128, "color": "grey", "frames": 4}}
    grouped = settings(**AT_DEFAULT | {"data": {"group": "x"}, "evaluate": {"resolution": "full"}})
    assert grouped["data"]["group"] == "x" and grouped["evaluate"]["resolution"] == "full"


def test_a_record_that_says_its_defaults_reads_like_one_that_does_not(inside, tmp_path):
    this = json.loads(Path("reports/ablation.json").read_text())
    said = json.loads(json.dumps(this))
    for name, keys in AT_DEFAULT.items():
        said["settings"][name] = {**keys, **said["settings"][name]}
    report_project.write(tmp_path / "said.json", said)
    assert ablation.read_record(tmp_path / "said.json") == this


def test_published_records_are_at_model_resolution():
    """They were made before there was another; the settings of each say so by leaving it out."""
    paths = sorted((report_project.ROOT / "reports/published").glob("*/s*/*.json"))
    paths = [path for path in paths if path.parent.name in ("seeds", "sweep")]
    old = [path for path in paths if "code" not in json.loads(path.read_text())]
    assert len(old) >= 20
    for record in map(ablation.read_record, old):
        assert ablation.head([record])[3] == "AUPRO (model)" and "resolution" not in record["settings"]["evaluate"]


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
    assert not Path("reports/plots/energy.png").exists()
    html, text = Path("reports/index.html").read_text(), Path("reports/report.md").read_text()
    assert "not measured (no energy source for this device)" in html
    assert "| student-int8 | 0.966 | 0.956 | 0.910 | \u2013 | \u2013 | 1.70 MB" in text
    plan.write_text("plan: {}\n")
    run(made)
    assert "not measured (no device in the plan)" in Path("reports/report.md").read_text()


def test_an_emulated_device_is_marked_and_never_plotted_as_latency(tmp_path, monkeypatch):
    made = report_project.make(tmp_path, per_type=2)
    monkeypatch.chdir(tmp_path)
    shown = []
    monkeypatch.setattr(plots, "accuracy_latency", lambda rows, color, path: shown.extend(rows) or blank(path))
    monkeypatch.setattr(plots, "latency", lambda benches, color, path: shown.extend(benches) or blank(path))
    for item in report_project.BOARD:
        path = tmp_path / f"artifacts/bench/{item}.json"
        report_project.write(path, {**json.loads(path.read_text()), "how": "emulated"})
    run(made)
    assert shown and not [row for row in shown if row["device"] == "board"]
    rows = [row for row in json.loads(Path("reports/summary.json").read_text()) if row["device"] == "board"]
    assert rows and all(row["how"]["latency"] == "emulated" for row in rows)
    assert '<span class="how emulated">' in Path("reports/index.html").read_text()
    assert "board" not in Path("reports/metrics.json").read_text()


def blank(path):
    path.write_bytes(b"")


def test_what_a_user_can_cause_is_one_line(tmp_path, monkeypatch):
    made = report_project.make(tmp_path, per_type=2)
    monkeypatch.chdir(tmp_path)
    bench = tmp_path / "artifacts/bench/local-teacher-onnx.json"
    kept = bench.read_text()
    bench.unlink()
    with pytest.raises(UserError, match=r"local-teacher-onnx\.json: not found"):
        run(made)
    bench.write_text(kept)
    kept = plots.DEFECTS.read_bytes()
    plots.DEFECTS.unlink()
    with pytest.raises(UserError, match=r"defects\.png: not found"):
        run(made)
    plots.DEFECTS.write_bytes(kept)
    (tmp_path / "artifacts/eval/teacher-onnx.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        run(made)
    (tmp_path / "hardware_runners/plan.yaml").write_text("plan:\n  a: {device: local, variant: absent}\n")
    with pytest.raises(UserError, match="absent is not in params"):
        summary.read_benches(made.variants)


def test_examples_are_spread_over_types_and_ranks():
    defects = ["good"] * 5 + ["a"] * 5 + ["b"] * 1
    scores = np.arange(11.0)
    assert choose(defects, scores, 3) == [7, 10, 2]
    assert sorted(choose(defects, scores, 5)) == [2, 5, 7, 9, 10]
    assert len(choose(defects, scores, 24)) == 7 and choose(["good"] * 3, scores, 1) == [1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (9.1, "9.10"), (123.4, "123"), (12345, "12,300"), (0, "0.00"), (None, "\u2013")],
)
def test_three_significant_digits(value, text):
    assert significant(value) == text


def test_html_is_escaped(inside):
    html = page.render("page.html.j2", page.context("<b>&", "'\"<i>", {}, [], {}, [], [], {}))
    assert "<h1>&lt;b&gt;&amp;</h1>" in html and "<i>" not in html


# the list of results in dvc.yaml


def test_the_results_in_dvc_yaml_are_those_of_params_and_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", "params.yaml", "hardware_runners/plan.yaml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text((report_project.ROOT / name).read_text())
    dependencies.main(["--check"])
    first, second = [f"      - artifacts/eval/teacher-onnx.{end}\n" for end in ("json", "npz")]
    old = Path("dvc.yaml").read_text()
    assert first + second in old
    Path("dvc.yaml").write_text(old.replace(first + second, second + first))
    dependencies.main(["--check"])  # in whatever order
    Path("dvc.yaml").write_text(old)
    params_yaml, plan = Path("params.yaml"), Path("hardware_runners/plan.yaml")
    plan.write_text(plan.read_text().replace("local-teacher-onnx:", "pi5-teacher-onnx:"))
    params_yaml.write_text(params_yaml.read_text().replace("  pruned-fp32:\n", "  thin-fp32:\n"))
    with pytest.raises(SystemExit):
        dependencies.main([])
    assert "local-pruned-fp32: variant pruned-fp32 is not in params.yaml" in capsys.readouterr().err
    plan.write_text(plan.read_text().replace("variant: pruned-fp32", "variant: thin-fp32"))
    with pytest.raises(SystemExit) as stop:
        dependencies.main(["--check"])
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.count("\n") == 1 and "run python -m stages.report.dependencies" in error
    assert Path("dvc.yaml").read_text() == old
    dependencies.main([])
    dependencies.main(["--check"])
    changed = set(Path("dvc.yaml").read_text().splitlines()) ^ set(old.splitlines())
    assert {line.strip() for line in changed} == {
        *(f"- artifacts/eval/{name}.{end}" for name in ("pruned-fp32", "thin-fp32") for end in ("json", "npz")),
        *(f"- artifacts/bench/{name}-teacher-onnx.json" for name in ("local", "pi5")),
    }
    Path("dvc.yaml").write_text(old.replace("# end of results", "# end"))
    with pytest.raises(SystemExit):
        dependencies.main([])
    assert "report has no lines" in capsys.readouterr().err


def test_the_stage_says_that_its_list_is_old(tmp_path):
    """Before anything is read: DVC did not bring up to date what is not listed."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((report_project.ROOT / name).read_text())
    (tmp_path / "hardware_runners").mkdir()
    (tmp_path / "hardware_runners/plan.yaml").write_text("plan: {}\n")
    environment = {**os.environ, "PYTHONPATH": str(report_project.ROOT)}
    command = [sys.executable, "-m", "stages.report"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: report: dvc.yaml: report lists other results than")
    assert done.stderr.count("\n") == 1
