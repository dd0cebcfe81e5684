"""What each step of compression costs: one run, several seeds, and which runs may be compared."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import report_project
import yaml
from report_project import run

from edge.errors import UserError
from experiments import records
from stages.common import params, schema
from stages.report import ablation


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
    assert "Int8: ranges calibrated, biases corrected." in text and "QAT" not in text


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
        assert found[0].startswith("Start: ") and found[1].startswith(f"Int8: {how}.") and len(found) == 2


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


EVALS = {"a": {"test_index_sha256": "1"}, "b": {"test_index_sha256": "1"}}


def test_variants_that_were_judged_on_other_pictures_are_refused():
    assert ablation.test_index(EVALS) == "1"
    for other in ({"test_index_sha256": "2"}, {}):
        with pytest.raises(UserError, match="artifacts/eval: a and c were judged on other test pictures") as caught:
            ablation.test_index(EVALS | {"c": other})
        assert "\n" not in str(caught.value)


def test_networks_are_told_apart_by_name_not_by_where_they_lie(inside):
    tree = yaml.safe_load((report_project.ROOT / "params.yaml").read_text())
    found = []
    places = ("/x/resnet-18", "/y/mobilenet-v2-1.0-224"), ("a/resnet-18", "b/mobilenet_v2_1.0_224"), ("/x/r-50", "b/c")
    for backbone, init in places:
        changed = {"teacher": {**tree["teacher"], "backbone": backbone}, "student": {**tree["student"], "init": init}}
        found.append(ablation.settings(params.validate(tree | changed), EVALS))
    assert found[0] == found[1] and "/" not in json.dumps(found)
    assert found[0]["teacher"] != found[2]["teacher"] and found[0]["student"] != found[2]["student"]


def test_of_joined_networks_each_is_told_by_its_name(inside):
    tree = yaml.safe_load((report_project.ROOT / "params.yaml").read_text())
    found = []
    for backbone in (["/x/mobilenet_v2_1.0_224", "/x/resnet-18"], ["google/mobilenet_v2_1.0_224", "y/resnet-18"]):
        join = {**tree["teacher"], "backbone": backbone, "layers": [[3, 5], [2, 3]]}
        found.append(ablation.settings(params.validate(tree | {"teacher": join}), EVALS))
    assert found[0] == found[1] and found[0]["teacher"]["backbone"] == ["mobilenet-v2-1.0-224", "resnet-18"]
    plain = ablation.settings(params.validate(tree), EVALS)
    wanted = "teacher.backbone = [mobilenet-v2-1.0-224, resnet-18], teacher.layers = [[3, 5], [2, 3]]"
    assert records.label(found[0], plain) == wanted


ONE_TILE = {"height": None, "width": None, "fit": "stretch", "tiles": {"rows": 1, "columns": 1, "overlap": 32}}
PICTURE = {"color": "rgb", "frames": 1, "step": 1, "every": 1, "depth": None, **ONE_TILE}
VIEWS = {"zoom": 0.1, "angle": 7.5, "shift": 4.0, "contrast": [0.7, 1.4], "light": 0.1, "noise": 0.02}
CLIPS = {"train": 8, "test_good": 2, "test_per_anomaly": 3, "frames": 48}
AT_DEFAULT = {"input": PICTURE, "data": {"group": None, "split": "unsupervised", "synthetic_clips": CLIPS}}
AT_DEFAULT |= {"distill": {"train_trunk": True}, "evaluate": {"resolution": "model", "frames_per_second": 25.0}}
AT_DEFAULT |= {"teacher": {"motion": "none", "motion_lag": 2, "simclr_temperature": 0.1, "simclr_views": VIEWS}}
AT_DEFAULT |= {"student": {"poses": "none"}}
NO_ACCURACY = {"compile": {"threshold": "quantile", "embedding": 0}, "report": {"latency_budget_ms": None}}
NO_ACCURACY |= {"defects": schema.Defects().model_dump()}  # what decides none


def test_a_key_at_its_default_is_left_out_of_the_settings(inside):
    """One rule for all of them: a record that is older than a key is comparable, whatever the others are."""
    known = {name: keys for name, keys in ablation.defaults().items() if keys}
    assert known["input"].pop("size") is None and known == AT_DEFAULT | NO_ACCURACY  # but a size or two sides are named
    tree = yaml.safe_load((report_project.ROOT / "params.yaml").read_text())

    def settings(**changes):
        changed = {name: tree[name] | keys for name, keys in changes.items()}
        return ablation.settings(params.validate(tree | changed), EVALS)

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
