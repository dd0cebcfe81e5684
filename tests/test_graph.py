"""What dvc.yaml declares against what the code imports and what each parameter should rerun."""

import pytest
import yaml
from conftest import ROOT
from dvc.repo import Repo
from imports import PACKAGES, closure

from stages.report import dependencies

STAGES = (
    *("fetch", "teacher", "baseline", "distill", "compress", "compile"),
    *("evaluate", "benchmark", "defects", "illustrate", "report"),
)
CHAIN = tuple(stage for stage in STAGES if stage != "baseline")  # from the teacher to the report
DOWNSTREAM = {  # stage: what follows it
    "fetch": STAGES,
    "teacher and baseline": STAGES[1:],
    "teacher": CHAIN[1:],
    "baseline": ("baseline", *CHAIN[4:]),
    "distill": CHAIN[2:],
    "compress": CHAIN[3:],
    "compile": CHAIN[4:],
    "evaluate": ("evaluate", "illustrate", "report"),
    "benchmark": ("benchmark", "illustrate", "report"),
    "defects": ("defects", "report"),
    "illustrate": ("illustrate", "report"),
    "report": ("report",),
}
FIRST_READER = {  # the first stage that a key (or the section it is in) changes
    "seed": "teacher and baseline",
    "threads": "teacher and baseline",
    "data": "fetch",
    "input": "teacher and baseline",
    "input.depth": "fetch",  # which reads every picture to check it
    "teacher": "teacher",
    "baselines": "baseline",
    "student": "distill",
    "distill": "distill",
    "compress": "compress",
    "compile": "compile",
    "variants": "compile",
    "evaluate": "evaluate",
    "benchmark": "benchmark",
    "defects": "defects",
    "report": "report",
    "report.examples": "illustrate",
    "report.latency_budget_ms": "illustrate",  # decides which variant the gallery is of
}


@pytest.fixture(scope="module")
def declared() -> dict[str, dict]:
    """The stages of dvc.yaml, the body of a foreach stage in its place."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return {name: body.get("do", body) for name, body in stages.items()}


@pytest.fixture(scope="module")
def params() -> dict:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def keys(tree: dict, prefix: str = "") -> list[str]:
    found = []
    for name, value in tree.items():
        dotted = f"{prefix}{name}"
        found += keys(value, f"{dotted}.") if isinstance(value, dict) else [dotted]
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_declared_dependencies_cover_the_imports(stage, declared):
    deps = declared[stage]["deps"]
    needed = closure(f"stages.{stage}.__main__")
    if stage == "benchmark":
        needed |= closure("hardware_runners.runner.remote.measure")  # its subprocess
    missing = {f for f in needed if not any(f == d or f.startswith(f"{d}/") for d in deps)}
    assert not missing, f"{stage} imports but dvc.yaml does not declare {sorted(missing)}"
    code = [d for d in deps if d.split("/")[0] in PACKAGES and not d.endswith((".yaml", "inventory"))]
    unused = [d for d in code if not any(f == d or f.startswith(f"{d}/") for f in needed)]
    assert not unused, f"{stage} declares but does not import {unused}"


def test_every_stage_is_a_package_that_runs(declared):
    assert tuple(declared) == STAGES
    for stage in STAGES:
        assert declared[stage]["cmd"].startswith(f"exec python -m stages.{stage}")
        assert f"stages/{stage}" in declared[stage]["deps"]


def test_test_images_are_no_dependency_before_evaluate(declared):
    for stage in ("teacher", "distill", "compress", "compile", "benchmark"):
        assert "data/test" not in declared[stage]["deps"]
        assert "data" not in declared[stage]["deps"]
    assert {stage for stage in STAGES if "data/test" in declared[stage]["deps"]} == {
        "evaluate",
        "defects",
        "illustrate",
    }


def test_every_key_reruns_its_stage_and_what_follows(params):
    """Walks every key of params.yaml through the graph as DVC resolves it."""
    index = Repo(ROOT).index
    readers: dict[str, set[str]] = {}
    for stage in index.stages:
        for dep in stage.deps:
            for name in getattr(dep, "params", None) or []:
                if str(dep).startswith("params.yaml") or dep.fs_path.endswith("params.yaml"):
                    readers.setdefault(name, set()).add(stage.addressing)
    plan = yaml.safe_load((ROOT / "hardware_runners/plan.yaml").read_text())["plan"]
    planned = {entry["variant"] for entry in plan.values()}
    graph = index.graph  # edges point from a stage to what it needs
    for key in keys(params):
        direct = {s for name, stages in readers.items() if key == name or key.startswith(f"{name}.") for s in stages}
        assert direct, f"no stage reads {key}"
        stale = {stage.addressing for stage in index.stages if stage.addressing in direct}
        grown = True
        while grown:
            more = {a.addressing for a, b in graph.edges if b.addressing in stale} - stale
            stale |= more
            grown = bool(more)
        verbs = {s.split("@")[0] for s in stale}
        expected = set(DOWNSTREAM[FIRST_READER.get(key) or FIRST_READER[key.split(".")[0]]])
        if key.startswith("variants.") and key.endswith((".role", ".step")):
            expected = {"illustrate", "report"}
        elif key.startswith("variants."):
            variant = key.split(".")[1]
            expected = {"compile", "evaluate", "defects", "illustrate", "report"}
            expected |= {"benchmark"} if variant in planned else set()
            touched = {s for s in stale if s.startswith(("compile@", "evaluate@"))}
            assert touched == {f"compile@{variant}", f"evaluate@{variant}"}
        if key.startswith(("distill.images", "distill.batch")):
            assert "compress" in direct
        assert verbs == expected, f"{key} reruns {sorted(verbs)}, expected {sorted(expected)}"


def test_report_lists_every_variant_and_every_plan_item(declared, params, monkeypatch):
    monkeypatch.chdir(ROOT)
    dependencies.check(params["variants"], params["baselines"])
    plan = yaml.safe_load((ROOT / "hardware_runners/plan.yaml").read_text())["plan"]
    for stage, ends in {"illustrate": ("json", "npz"), "report": ("json",)}.items():  # the report needs no maps
        wanted = {f"artifacts/eval/{v}.{end}" for v in params["variants"] for end in ends}
        wanted |= {f"artifacts/bench/{item}.json" for item in plan}
        found = {d for d in declared[stage]["deps"] if d.startswith(("artifacts/eval", "artifacts/bench"))}
        assert found == wanted
    assert {entry["variant"] for entry in plan.values()} <= set(params["variants"])
    for entry in plan.values():
        assert (ROOT / "hardware_runners/inventory" / f"{entry['device']}.yaml").is_file()


def test_python_caches_are_no_dependency():
    ignored = (ROOT / ".dvcignore").read_text().split()
    assert "__pycache__" in ignored and "*.pyc" in ignored
