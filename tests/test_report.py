"""`report` on made-up results: a table, plots and a page that say how every figure came about."""

import hashlib
import json
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import report_project
import yaml

from edge.errors import UserError
from stages.common import params
from stages.report import ablation, plots, publish, readme, summary, sweep
from stages.report.__main__ import run
from stages.report.examples import choose

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
    assert found["seed"] == 0 and set(found["steps"]) == {"float", "pruned", "QAT"}
    assert found["steps"]["QAT"] == {
        **{"variant": "student-int8", "image_auroc": 0.966, "aupro": 0.87, "size_bytes": 1_700_000, "params": 425_000},
        **{"macs": 51_000_000, "p50_ms": bench["latency_ms"]["p50"], "val_auroc": 0.916},
    }
    assert found["device"] == "local" and found["machine"] == {"cpu": "Made-up CPU", "int8": "asimddp"}
    text, html = Path("reports/report.md").read_text(), Path("reports/index.html").read_text()
    assert "| student-fp32 | float | 0.972 | 0.870 | 9.20 MB |" in text and "One seed" in html
    assert text.index("| float |") < text.index("| QAT |") < text.index("| pruned |")


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
    unpruned = made.compress.model_copy(update={"prune_ratio": 0.0})
    run(made.model_copy(update={"compress": unpruned}))
    found = json.loads(Path("reports/ablation.json").read_text())
    assert found["device"] == "board" and set(found["steps"]) == {"float", "QAT"}
    assert "latency on one thread measured on board" in Path("reports/report.md").read_text()


def test_ablation_over_published_seeds(tmp_path, monkeypatch, capsys):
    """Mean and standard deviation of the runs that differ in nothing but their seed, against numpy."""
    made = report_project.make(tmp_path, per_type=2)
    monkeypatch.chdir(tmp_path)
    run(made)
    publish.publish("demo")
    this = json.loads(Path("reports/ablation.json").read_text())
    values = [0.972, 0.95, 0.99]
    for seed, value in enumerate(values[1:], 1):
        other = json.loads(json.dumps(this)) | {"seed": seed}
        other["steps"]["float"]["image_auroc"] = value
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
    assert "All seeds but 0 are published results (reports/published/demo)" in text
    page = Path("README.md")
    page.write_text("<!-- published:demo -->\n<!-- /published -->\n<!-- ablation:demo -->\n<!-- /ablation -->\n")
    readme.main([])
    block = page.read_text().partition("<!-- ablation:demo -->")[2]
    assert f"| student-fp32 | float | {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} |" in block
    page.write_text("<!-- ablation:demo -->\n" + page.read_text())
    with pytest.raises(SystemExit):
        readme.main([])
    assert "is never closed" in capsys.readouterr().err
    page.write_text(page.read_text().partition("\n")[2])
    report_project.write(tmp_path / "reports/published/demo/seeds/9.json", other)
    with pytest.raises(SystemExit):
        readme.main([])
    assert "needs records of equal settings" in capsys.readouterr().err
    rows = Path("reports/published/demo/summary.json").read_bytes()
    Path("reports/summary.json").write_text("[]")
    publish.publish("demo", seed_only=True)
    assert Path("reports/published/demo/summary.json").read_bytes() == rows
    run(made)
    publish.publish("demo")
    assert sorted(path.stem for path in Path("reports/published/demo/seeds").iterdir()) == ["0", "1", "2"]
    readme.main([])


def test_networks_are_told_apart_by_name_not_by_where_they_lie(inside):
    tree = yaml.safe_load((report_project.ROOT / "params.yaml").read_text())
    found = []
    places = ("/x/resnet-18", "/y/mobilenet-v2-1.0-224"), ("a/resnet-18", "b/mobilenet_v2_1.0_224"), ("/x/r-50", "b/c")
    for backbone, init in places:
        changed = {"teacher": {**tree["teacher"], "backbone": backbone}, "student": {**tree["student"], "init": init}}
        found.append(ablation.settings(params.validate(tree | changed)))
    assert found[0] == found[1] and "/" not in json.dumps(found)
    assert found[0]["teacher"] != found[2]["teacher"] and found[0]["student"] != found[2]["student"]


def test_runs_on_fewer_synthetic_pictures_are_no_seeds_of_each_other(inside):
    """Their test pictures are the same."""
    tree = yaml.safe_load((report_project.ROOT / "params.yaml").read_text())
    fewer = {**tree["data"], "synthetic": {**tree["data"]["synthetic"], "train": 20}}
    whole, part = (ablation.settings(params.validate(tree | {"data": data})) for data in (tree["data"], fewer))
    assert sweep.label(part, whole) == "data.synthetic.train = 20"


def test_equal_input_gives_equal_bytes(inside):
    first = digests(Path("reports"))
    run(inside)
    assert digests(Path("reports")) == first


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
    assert summary.significant(value) == text


def test_published_results_fill_the_readme(inside, monkeypatch, capsys):
    folder = publish.publish("demo")
    assert sum(path.stat().st_size for path in folder.rglob("*.json")) < publish.LIMIT
    assert "samples_ms" not in "".join(path.read_text() for path in folder.rglob("*.json"))
    for stage in ("distill", "compress"):
        made = Path("reports/curves") / stage / "plots/metrics/loss.tsv"
        assert (folder / "curves" / stage / "loss.tsv").read_bytes() == made.read_bytes()
    assert cv2.imread(str(folder / "curves.png")) is not None
    page = Path("README.md")
    page.write_text("# Title\n\n<!-- published:demo -->\nold\n<!-- /published -->\n\nend\n")
    with pytest.raises(SystemExit) as stop:
        readme.main(["--check"])
    assert stop.value.code == 1 and capsys.readouterr().err.count("\n") == 1
    readme.main([])
    readme.main(["--check"])
    text = page.read_text()
    assert text.startswith("# Title\n\n<!-- published:demo -->\n| Variant") and text.endswith("\n\nend\n")
    assert "| student-int8 | edgetpu | unavailable: no such device here |" in text and "old" not in text
    page.write_text("# Title\n")
    with pytest.raises(SystemExit):
        readme.main(["--check"])
    assert "no <!-- published:demo -->" in capsys.readouterr().err


def test_the_readme_of_this_repository_is_up_to_date(monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parent.parent)
    readme.main(["--check"])
