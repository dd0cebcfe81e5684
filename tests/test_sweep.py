"""Sweeps on one machine: what axes are refused before anything runs, what is run, kept, tried again and proposed."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sweep_project
import toy
import yaml
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser

from edge.errors import UserError
from experiments import axes, project, proposal, sweep, unit

TREE = yaml.safe_load((ROOT / "params.yaml").read_text())


def units(*texts: str, most: int = 200) -> list[axes.Unit]:
    return axes.units(axes.read(texts), TREE, most)


def test_units_are_the_product_of_the_axes_with_the_seeds_last():
    found = [unit.changes for unit in units("seed=0,1", "student.width=0.25,0.5", "teacher.layers=[0, 1],[2,3]")]
    expected = itertools.product((0.25, 0.5), ([0, 1], [2, 3]), (0, 1))
    assert [tuple(value for _, value in changes) for changes in found] == list(expected)
    assert [key for key, _ in found[0]] == ["student.width", "teacher.layers", "seed"]
    (one,) = units("distill.lr=1e-3")
    assert one.changes == (("distill.lr", 0.001),)


def test_a_unit_has_one_key_however_its_settings_are_said():
    by_default, said, other = units("seed=0")[0], units("student.width=1", "seed=0")[0], units("student.width=0.5")[0]
    assert by_default.key == said.key != other.key


@pytest.mark.parametrize(
    "given, told",
    [
        (["student.wdth=1"], "student.wdth: no key of params.yaml; did you mean student.width?"),
        (["zzz=1"], "zzz: no key of params.yaml"),
        (["student=1"], "student: no key of params.yaml; did you mean student.init?"),
        (["student.width"], "'student.width': no axis; give key=value,value"),
        (["student.width= "], "no axis"),
        (["=1"], "no axis"),
        (["seed=["], "seed=[: not valid YAML"),
        (["seed={a: 1}"], "the values must be numbers, names or [lists]"),
        (["student.width=0.5", "student.width=1"], "student.width: is given twice"),
        (["student.width=0.5,0.5"], "student.width=0.5: has the settings of student.width=0.5"),
        (["student.width=1,1.0"], "student.width=1.0: has the settings of student.width=1;"),
        (["student.width=wide"], "student.width=wide: student.width = 'wide': Input should be a valid number"),
        (["student.width=0.5,-1"], "student.width=-1: student.width = -1: Input should be greater than"),
        (["seed=0.5"], "seed = 0.5: Input should be a valid integer"),
        (["seed=0,1,2", "student.width=0.25,0.5"], "6 units are more than 5; take fewer values"),
    ],
)
def test_bad_axes_are_refused_in_one_line(given, told):
    with pytest.raises(UserError) as caught:
        units(*given, most=5)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["", "a b", "it's", "\\", "a\\'b", "x\\\\", "[1,2]", "null", "${seed}", "{a: 1}", "ä,b", "1"]
)
def test_texts_reach_dvc_as_they_are(value):
    """Read back by the parser that `dvc exp run -S` uses."""
    for one in (value, [value, 1], [[value], None, True, 0.5]):
        read = OverridesParser.create().parse_override(f"key={axes.hydra(one)}").value()
        plain = json.loads(json.dumps(read, default=lambda quoted: quoted.text))
        assert plain == one


def test_joined_networks_are_one_value_of_an_axis():
    found = units("teacher.backbone=[a/b,c/d]", "teacher.layers=[[3,5],[2]],[[4],[1]]")
    assert found[0].label == "teacher.backbone = [a/b, c/d], teacher.layers = [[3, 5], [2]]" and len(found) == 2
    assert found[0].overrides == ["teacher.backbone=['a/b','c/d']", "teacher.layers=[[3,5],[2]]"]


def test_the_next_value_is_in_the_middle_of_the_widest_gap_of_the_front():
    def proposed(chosen, fronts):
        found = axes.units(chosen, TREE, 200)
        return proposal.propose(chosen, fronts, found, lambda changes: axes.settings_key(TREE, changes))

    widths = {"student.width": [0.25, 0.5, 2.0], "seed": [0, 1]}
    every = [f"student.width = {value}" for value in widths["student.width"]]
    assert proposed(widths, every) == "student.width=1.0" and math.isclose(math.sqrt(0.5 * 2), 1)
    assert proposed(widths, every[:2]) == "student.width=0.35", "a gap within the front, not the wider one beside it"
    assert proposed({"student.width": [0.5, 0.53]}, ["student.width = 0.5"]) is None, "too close"
    assert proposed({"student.bank": [100, 101]}, ["student.bank = 100"]) is None
    assert proposed({"student.bank": [64, 4096]}, ["student.bank = 64"]) == "student.bank=512"
    assert proposed({"input.size": [64, 128]}, ["input.size = 64"]) is None, "90 is refused: no multiple of 16"
    assert proposed({"seed": [1, 100]}, ["default"]) is None
    assert proposed({"data.source": ["synthetic", "mtd"]}, ["data.source = mtd"]) is None


def test_only_the_standard_library_goes_to_workers():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules); import experiments.unit\n"
    code += "print(*{n.partition('.')[0] for n in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    out = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["experiments"]


class Flaky:
    """An executor whose units are lost so often before they are done."""

    def __init__(self, losses: int, error=unit.LostError):
        self.losses, self.error, self.calls = losses, error, 0

    def submit(self, do, job):
        from concurrent.futures import Future

        future, self.calls = Future(), self.calls + 1
        if self.calls <= self.losses:
            future.set_exception(self.error("dvc was ended by SIGKILL"))
        else:
            future.set_result({"overrides": job["overrides"]})
        return future


@pytest.mark.parametrize("losses, calls, failed", [(0, 1, 0), (1, 2, 0), (2, 2, 1)])
def test_a_lost_unit_is_tried_once_more_and_then_reported(losses, calls, failed, capsys):
    flaky, kept = Flaky(losses), []
    found = sweep.run_units(units("seed=5"), {}, flaky, lambda one, result: kept.append(result))
    assert flaky.calls == calls and len(found) == failed and len(kept) == 1 - failed
    assert ("trying again" in capsys.readouterr().err) == (losses > 0)
    assert not failed or "2 times" in found["seed=5"]


def test_no_unit_waits_at_a_worker_which_may_die():
    """As many units run as the workers take, also when some of these come or go; at least one, for who comes later."""
    from concurrent.futures import Future

    class Growing:
        """Room for none, one, two, ... and the end of the oldest unit whenever somebody asks for room."""

        def __init__(self):
            self.open, self.rooms, self.most = [], 0, []

        def room(self):
            if self.open:
                oldest = self.open.pop(0)
                oldest.done() or oldest.set_result({})
            self.rooms += 1
            return self.rooms - 1

        def submit(self, do, job):
            self.open.append(Future())
            self.most.append((len(self.open), self.rooms - 1))
            if len(self.most) == 6:
                [future.set_result({}) for future in self.open]
            return self.open[-1]

    growing, kept = Growing(), []
    assert not sweep.run_units(units("seed=0,1,2,3,4,5"), {}, growing, lambda one, result: kept.append(one.name))
    assert len(set(kept)) == 6 and all(count <= max(room, 1) for count, room in growing.most)


def test_a_unit_that_fails_is_not_tried_again():
    flaky = Flaky(9, unit.UnitError)
    assert (
        sweep.run_units(units("seed=5"), {}, flaky, None) == {"seed=5": "dvc was ended by SIGKILL"} and flaky.calls == 1
    )


# with DVC


@pytest.fixture
def toy_project(tmp_path):
    return sweep_project.make(tmp_path / "project")


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, env=toy.environment(), capture_output=True)


def test_what_a_clean_clone_would_not_have_is_refused(toy_project, monkeypatch):
    monkeypatch.chdir(toy_project)
    commit = project.commit(None)
    own = axes.units({"data.source": ["folder"]}, TREE, 9)
    project.check_paths(TREE, own, commit)  # no picture lies here
    picture = Path("data/raw/train/good/0.png")
    picture.parent.mkdir(parents=True)
    picture.touch()
    with pytest.raises(UserError, match=r"data.path: data/raw is not in the commit"):
        project.check_paths(TREE, own, commit)
    project.check_paths(TREE, units("seed=1"), commit)  # the synthetic source reads none of it
    weights = Path("weights/net")
    weights.mkdir(parents=True)
    (weights / "config.json").touch()
    join = {"teacher.backbone": [[str(weights.resolve()), "weights/net"]], "teacher.layers": [[[0], [1]]]}
    with pytest.raises(UserError, match=r"teacher.backbone: weights/net is not in the commit"):
        project.check_paths(TREE, axes.units(join, TREE, 9), commit)
    mine = axes.units({"teacher.backbone": ["weights/net"]}, TREE, 9)
    with pytest.raises(UserError, match=r"teacher.backbone: weights/net is not in the commit.*absolute path"):
        project.check_paths(TREE, mine, commit)
    project.check_paths(TREE, axes.units({"teacher.backbone": [str(weights.resolve())]}, TREE, 9), commit)
    git(toy_project, "add", "-f", "weights")
    git(toy_project, "commit", "-qm", "weights")
    project.check_paths(TREE, mine, project.commit(None))


def test_only_what_is_committed_is_swept(toy_project, monkeypatch):
    monkeypatch.chdir(toy_project)
    commit = project.commit(None)
    Path("params.yaml").write_text(Path("params.yaml").read_text() + "\n")
    with pytest.raises(UserError, match=r"params.yaml: changed since the commit"):
        project.commit(None)
    assert project.commit("HEAD") == commit
    with pytest.raises(UserError, match=r"nonsense: no commit"):
        project.commit("nonsense")
    with pytest.raises(UserError, match=r"--output=x: no commit"):
        project.commit("--output=x")


def test_hosts_need_a_remote_that_keeps_runs(toy_project, monkeypatch):
    monkeypatch.chdir(toy_project)
    assert project.remote(None, local=True) is None
    with pytest.raises(UserError, match="this project has none; give --remote"):
        project.remote(None, local=False)
    with pytest.raises(UserError, match="keeps no run cache"):
        project.remote("https://example.org/cache", local=True)
    assert project.remote("s3://bucket/x", local=False) == ["sweep", "s3://bucket/x"]
    with open(".dvc/config", "w") as stream:
        stream.write("[core]\n    remote = near\n['remote \"near\"']\n    url = ../../near\n")
    name, url = project.remote(None, local=False)
    assert name == "near" and Path(url).resolve() == toy_project.parent / "near" and os.path.isabs(url)
    assert project.cache() == str(toy_project / ".dvc/cache")


@pytest.mark.slow
def test_a_sweep_of_one_machine(toy_project, tmp_path):
    """Runs, keeps and compares; goes on where it was interrupted; says what fails; the project has the results too."""
    log = {"TOY_LOG": str(tmp_path / "log")}
    done = sweep_project.command(toy_project, "student.width=0.25,1.0", "seed=0,13", **log)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert (
        "error: sweep: 2 of 4 units failed, e.g. student.width=0.25, seed=13: train: thirteen can't be trained"
        in done.stderr
    )
    assert "| student.width = 0.25 | 1 |" in done.stdout and "Try next: student.width=0.5" in done.stdout
    assert "Pareto front of int8 AUROC and MACs: student.width = 0.25; student.width = 1.0." in done.stdout
    (folder,) = toy_project.glob("reports/sweeps/*")
    kept = {path.name: path.read_bytes() for path in folder.glob("*seed*.json")}
    assert len(kept) == 2 and list(folder.glob("table-*.png"))
    record = json.loads(next(iter(kept.values())))
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=toy_project, capture_output=True, text=True).stdout.strip()
    assert record["code"]["commit"] == head and record["code"]["clean"] and record["device"] is None
    assert record["steps"]["int8"]["p50_ms"] is None and not list((tmp_path / "scratch").glob("unit-*"))
    rows = (tmp_path / "log").read_text()
    for path in kept:  # the records are lost, but not the results
        (folder / path).unlink()
    done = sweep_project.command(toy_project, "student.width=0.25,1.0", "seed=0", **log)
    assert done.returncode == 0 and done.stderr.count(", 0 stages ran") == 2
    assert (tmp_path / "log").read_text() == rows
    assert {path.name: path.read_bytes() for path in folder.glob("*seed*.json")} == kept
    run = toy.dvc(toy_project, "exp", "run", "-S", "student.width=0.25", **log)
    assert run.returncode == 0 and not toy.ran(run), run.stdout


@pytest.mark.slow
def test_dvc_ends_with_its_worker_and_what_it_left_goes(tmp_path):
    folder = sweep_project.make(tmp_path / "project", train=200)
    log, scratch = tmp_path / "log", tmp_path / "scratch"
    line = [sys.executable, "-m", "experiments", "sweep", "seed=0", "--scratch", str(scratch)]
    environment = toy.environment(PYTHONPATH=str(ROOT), TOY_LOG=str(log))
    process = subprocess.Popen(line, cwd=folder, env=environment, start_new_session=True)
    while not (log.exists() and "train" in log.read_text()):
        time.sleep(0.05)
    stage = int(log.read_text().split()[-1])
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 100  # the stage would sleep longer
    while (alive := Path(f"/proc/{stage}").exists()) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive and len(list(scratch.glob("unit-*"))) == 1
    unit._remove_leftovers(scratch)
    assert not list(scratch.glob("unit-*"))
