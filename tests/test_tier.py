"""Changing to another tier: what the files hold afterwards, and that everything else stays."""

import shutil
from argparse import Namespace

import pytest
import yaml
from conftest import ROOT

from edge.errors import UserError
from experiments import tier
from stages.common import params
from stages.report import dependencies


@pytest.fixture
def project(here):
    for name in ("params.yaml", "dvc.yaml", "hardware_runners/plan.yaml"):
        (here / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, here / name)
    return here


def test_the_video_tier_is_valid_and_keeps_the_rest(project):
    before = yaml.safe_load((project / "params.yaml").read_text())
    text = (project / "params.yaml").read_text().replace("  width: 1.0 ", "  width: 0.5 ")
    (project / "params.yaml").write_text(text)
    tier.run(Namespace(name="video"))
    after = yaml.safe_load((project / "params.yaml").read_text())
    found = params.validate(after)
    assert (found.data.source, found.input.color, found.input.frames) == ("synthetic_clips", "grey", 8)
    assert "teacher-onnx" not in found.variants and found.variants["convlstm-int8"].model == "baseline/convlstm"
    assert found.student.width == 0.5 and after["compile"] == before["compile"]
    assert found.variants.keys() - {"convlstm-int8"} == before["variants"].keys() - {"teacher-onnx"}
    dependencies.check(found.variants, found.baselines)  # dvc.yaml lists the new results
    plan = yaml.safe_load((project / "hardware_runners/plan.yaml").read_text())["plan"]
    assert "local-convlstm-int8" in plan and "local-teacher-onnx" not in plan
    assert "# Every setting of the pipeline" in (project / "params.yaml").read_text()  # comments stay
    assert "  hashes: null   " in (project / "params.yaml").read_text()  # and so does how a value is written
    once = {path: path.read_text() for path in project.rglob("*.yaml")}
    tier.run(Namespace(name="video"))
    assert once == {path: path.read_text() for path in project.rglob("*.yaml")}


@pytest.mark.parametrize("name", tier.names())
def test_every_tier_exports_and_measures_what_it_fits(project, name):
    tier.run(Namespace(name=name))
    found = params.validate(yaml.safe_load((project / "params.yaml").read_text()))
    models = {variant.model for variant in found.variants.values()}
    assert {f"baseline/{baseline}" for baseline in found.baselines} <= models
    plan = yaml.safe_load((project / "hardware_runners/plan.yaml").read_text())["plan"]
    assert {line["variant"] for line in plan.values()} == found.variants.keys()


def test_a_tier_that_is_none_changes_nothing(project):
    before = {path: path.read_text() for path in project.rglob("*.yaml")}
    with pytest.raises(UserError, match="no tier 'vidoe'; there are methods, video"):
        tier.run(Namespace(name="vidoe"))
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("size: 128 ", "size: 7 ", 1))
    before[project / "params.yaml"] = (project / "params.yaml").read_text()
    with pytest.raises(UserError, match=r"params\.yaml: "):
        tier.run(Namespace(name="video"))
    assert before == {path: path.read_text() for path in project.rglob("*.yaml")}


def test_a_mapping_that_loses_all_its_entries_is_empty(project):
    tree = tier.merged(tier.PARAMS, {"baselines": {"autoencoder": None}})
    with open(tier.PARAMS, "w") as stream:
        tier._yaml().dump(tree, stream)
    assert yaml.safe_load(tier.PARAMS.read_text())["baselines"] == {}
