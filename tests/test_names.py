"""Names in params.yaml and the plan come with pull requests: none may run a command or reach another file."""

import shutil

import pytest
import toy
import yaml
from conftest import ROOT

from edge.errors import UserError
from hardware_runners.runner import devices
from hardware_runners.runner.errors import RunnerError
from stages.common import params, stage

HOSTILE = (
    *("c$(touch X)", "c`touch X`", 'c"; touch X; "', "c'; touch X; '", "c; touch X", "c\ntouch X", "c & touch X #"),
    *("${plan}", "$(touch X)@", "-c", "../../X", "a/../../X", "..", "", "A", "a b", "a.b", "\u00e4", "a" * 101, "a\n"),
)
FOREACH = {"baselines": "baseline", "variants": "compile", "plan": "benchmark"}  # one stage of each section


@pytest.fixture
def folder(tmp_path):
    """A DVC project with the real stages and graph, and a file of the user's."""
    for name in ("stages", "edge", "hardware_runners"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "X").mkdir()
    (tmp_path / "X" / "mine.txt").write_text("kept")
    (tmp_path / "data/mine").mkdir(parents=True)
    (tmp_path / "data/mine/a.png").write_text("kept")
    assert toy.dvc(tmp_path, "init", "-q", "--no-scm").returncode == 0
    return tmp_path


def put(folder, section: str, *names: str, alone: bool = True) -> None:
    """Makes the section one of these names; `alone` leaves of the graph their stage, with nothing to wait for."""
    path = folder / ("hardware_runners/plan.yaml" if section == "plan" else "params.yaml")
    tree = yaml.safe_load(path.read_text())
    entries = {"baselines": {"kind": "patchcore", "settings": {}}, "plan": {"device": "local", "variant": "v"}}
    entries["variants"] = {"model": "student", "format": "onnx", "precision": "float32", "role": "student"}
    tree[section] = {name: entries[section] for name in names}
    path.write_text(yaml.safe_dump(tree))
    if alone:
        graph = yaml.safe_load((folder / "dvc.yaml").read_text())
        graph["stages"] = {FOREACH[section]: graph["stages"][FOREACH[section]]}
        graph["stages"][FOREACH[section]]["do"]["deps"] = ["stages/common"]
        (folder / "dvc.yaml").write_text(yaml.safe_dump(graph))


def files(folder) -> list:
    return sorted(path for path in folder.rglob("*") if not {".dvc", "__pycache__"} & set(path.parts))


@pytest.mark.slow
@pytest.mark.parametrize("section", FOREACH)
def test_dvc_repro_runs_nothing_that_a_name_holds(folder, section):
    names = [name for name in HOSTILE if "touch" in name and "@" not in name]
    put(folder, section, *names)
    before = files(folder)
    done = toy.dvc(folder, "repro", "--keep-going", SHELL="/bin/sh")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert done.stderr.count(f"error: {FOREACH[section]}: ") == len(names), done.stderr
    assert files(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../../data/mine", "../../X", "../../X/mine.txt", "../../edge", "$(touch Y)@"])
def test_dvc_refuses_an_output_elsewhere_before_it_removes_it(folder, name):
    put(folder, "variants", name, alone=False)
    before = files(folder)
    done = toy.dvc(folder, "repro")
    assert done.returncode != 0 and not toy.ran(done), done.stdout
    assert files(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("section", ["variants", "plan"])
def test_the_real_graph_gives_each_stage_its_name(folder, section):
    put(folder, section, "no-model")
    done = toy.dvc(folder, "repro", SHELL="/bin/sh")
    item = f"{FOREACH[section]}@no-model"
    assert toy.ran(done) == {item} and f"error: {item}: " in done.stderr, done.stdout + done.stderr


def test_no_command_of_the_graph_holds_a_name():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name, body in stages.items():
        command = body.get("do", body)["cmd"]
        assert "${" not in command and ("do" in body) == command.endswith(' "$DVC_STAGE"'), name


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_refused_in_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hardware_runners/plan.yaml"
    path.parent.mkdir()
    for plan in ({name: {"device": "local", "variant": "v"}}, {"a": {"device": name, "variant": "v"}},
                 {"a": {"device": "local", "variant": name}}):  # fmt: skip
        path.write_text(yaml.safe_dump({"plan": plan}))
        for read, error in ((devices.plan, RunnerError), (params.read_plan, UserError)):
            with pytest.raises(error, match=r"hardware_runners/plan\.yaml: ") as caught:
                read()
            assert "\n" not in str(caught.value)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section in ("variants", "baselines"):
        wrong = {**tree, section: {**tree[section], name: next(iter(tree["variants"].values()))}}
        with pytest.raises(UserError) as caught:
            params.validate(wrong)
        assert f"{section}." in str(caught.value) and "\n" not in str(caught.value)
    if "@" not in name:
        with pytest.raises(SystemExit) as ended:
            stage.item("compile", name)
        line = capsys.readouterr().err
        assert ended.value.code == 2 and line.startswith("error: compile: ") and line.count("\n") == 1


def test_a_name_is_given_as_it_is_or_by_dvc():
    assert stage.item("compile", "student-int8") == stage.item("compile", "x/dvc.yaml:compile@student-int8")
