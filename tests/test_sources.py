"""The table of data sources: how one is found, that a new one needs no other code, what a wrong name says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from fetching import fetch, hash_list, picture
from imports import PACKAGES, closure

from edge.errors import UserError
from stages.common import params
from stages.fetch import sources

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def prefixed(monkeypatch):
    """The example source as if its file were in stages/fetch/sources."""
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(ROOT / "tests/example_sources")])
    yield
    sys.modules.pop("stages.fetch.sources.prefixed", None)


def test_a_new_source_is_one_module(here, prefixed):
    for i in range(10):
        picture(here / f"mine/good_{i}.png", i)
    for i in range(3):
        picture(here / f"mine/dent_{i}.jpg", 100 + i)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["data"]["source"] = "prefixed"
    assert params.validate(tree).data.source == "prefixed"
    assert "prefixed" in sources.names()

    items = fetch("prefixed", path="mine")
    assert {(i.path, i.defect) for i in items if i.label} == {(f"images/dent/dent_{i}.jpg", "dent") for i in range(3)}
    assert sorted(i.split for i in items) == ["test"] * 5 + ["train"] * 7 + ["val"]
    for item in items:
        assert (Path("data", "test" if item.split == "test" else "train") / item.path).is_file()

    listed = hash_list(here / "list", here / "mine", sorted((here / "mine").iterdir()))
    fetch("prefixed", path="mine", hashes=listed)
    picture(here / "mine/crack.png", 7)
    with pytest.raises(UserError, match=r"mine/crack\.png: its name doesn't begin with a defect type"):
        fetch("prefixed", path="mine", hashes=listed)


def test_no_source_gives_a_type_that_is_good_but_for_case(here, prefixed):
    for i in range(4):
        picture(here / f"mine/good_{i}.png", i)
        picture(here / f"mine/Good_{i}.png", 100 + i)
    with pytest.raises(UserError, match=r"Good_0\.png: its type 'Good' would count as a defect; rename it to good"):
        fetch("prefixed", path="mine")


def test_without_its_module_it_is_no_source(here):
    known = ", ".join(sources.names())
    assert "folder" in known
    for name in ("nowhere", "", "folder.py", "../folder", "Folder", "__init__"):
        with pytest.raises(UserError, match=rf"^params\.yaml: data\.source = {name!r}: no such source; .* {known}$"):
            fetch(name)
    assert not list(here.glob("data/t*"))


def test_a_wrong_name_ends_the_run_at_its_first_stage(here):
    shutil.copy(ROOT / "dvc.yaml", here)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["data"]["source"] = "syntetic"
    (here / "params.yaml").write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "stages.fetch"]
    ended = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and ended.stdout == "" and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("error: fetch: params.yaml: data.source = 'syntetic': no such source; choose one of")


def test_only_the_chosen_source_is_imported(here):
    code = "import sys; from stages.fetch import __main__; print([m for m in sys.modules if 'fetch.sources.' in m])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


@pytest.mark.parametrize("name", sources.names())
def test_what_a_source_imports_is_declared(name):
    """Sources are imported by name, which tests/test_graph.py can't see."""
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["fetch"]["deps"]
    declared = [d for d in declared if d.split("/")[0] in PACKAGES]
    needed = closure(f"stages.fetch.sources.{name}")
    assert f"stages/fetch/sources/{name}.py" in needed
    assert all(any(file == d or file.startswith(f"{d}/") for d in declared) for file in needed), needed


def test_no_other_stage_depends_on_the_sources():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name in stages.keys() - {"fetch"}:
        assert not [file for file in closure(f"stages.{name}.__main__") if file.startswith("stages/fetch")]


def test_params_yaml_names_the_sources():
    """In two lines of comment: those of pictures and those of clips."""
    text = (ROOT / "params.yaml").read_text()
    lists = re.findall(r"# (?:a module of stages/fetch/sources|of clips): ([^;\n]+)", text)
    assert len(lists) == 2
    assert sorted(name.strip() for name in ",".join(lists).replace("(your own)", "").split(",")) == sources.names()
