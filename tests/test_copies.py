"""Own pictures in `dvc exp run --temp` and `--queue`, which work in a copy of what Git tracks."""

import shutil
from pathlib import Path

import pytest
import toy
from conftest import one_line
from fetching import dataset, fetch

from edge.errors import UserError


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A working folder where DVC makes its copies, and the repository of which it is one."""
    inside = tmp_path / ".dvc/tmp/exps/standalone/tmpx"
    (inside / "data/raw").mkdir(parents=True)
    (inside / "data/raw/README.md").write_text("tracked")
    dataset(tmp_path / "data/raw")
    shutil.copy(inside / "data/raw/README.md", tmp_path / "data/raw")
    monkeypatch.chdir(inside)
    return tmp_path


def test_pictures_that_git_does_not_track_are_said_to_be_left_out(copy):
    with pytest.raises(UserError) as caught:
        fetch("folder")
    line = one_line(caught)
    assert "not in this copy of what Git tracks" in line and "put the good pictures there" not in line
    assert line.endswith("-C data/raw/ground_truth -C data/raw/test -C data/raw/train")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"path": "own"}, "-C own"),
        ({"hashes": "own.sha256"}, "-C own.sha256"),
        ({"group": "parts.csv:part"}, "-C parts.csv"),
    ],
)
def test_so_are_other_files_that_params_name(copy, change, named):
    shutil.copytree(copy / "data/raw", "data/raw", dirs_exist_ok=True)
    dataset(copy / "own")
    for name in ("own.sha256", "parts.csv"):
        (copy / name).write_text("x")
    with pytest.raises(UserError) as caught:
        fetch("folder", **change)
    assert one_line(caught).endswith(named)


def test_what_is_absent_from_the_repository_too_keeps_its_own_line(copy):
    (copy / "data/raw/notes.txt").write_text("not tracked, and no reason")
    shutil.copytree(copy / "data/raw", "data/raw", dirs_exist_ok=True)
    Path("data/raw/notes.txt").unlink()
    shutil.rmtree(copy / "data/raw/train")
    shutil.rmtree("data/raw/train")
    with pytest.raises(UserError, match="data/raw/train/good: no such folder; put the good pictures there"):
        fetch("folder")


def test_outside_of_a_copy_the_line_is_as_before(here):
    Path("data/raw").mkdir(parents=True)
    with pytest.raises(UserError, match="put the good pictures there"):
        fetch("folder")


@pytest.mark.slow
def test_dvc_with_temp(tmp_path):
    """What the line tells to do is what works."""
    folder = toy.make(tmp_path, data__source="folder")
    dataset(folder / "data/raw")
    done = toy.dvc(folder, "exp", "run", "--temp", "fetch")
    assert done.returncode != 0 and "not in this copy of what Git tracks" in done.stderr
    line = next(line for line in done.stderr.splitlines() if line.startswith("error: fetch: "))
    options = line.partition("missing: ")[2].split()
    done = toy.dvc(folder, "exp", "run", "--temp", *options, "fetch")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_pictures_that_dvc_tracks_reach_copies_and_clones(tmp_path):
    """Without any option; a clone that has not pulled them says so."""
    folder, clone = toy.make(tmp_path / "toy", data__source="folder"), tmp_path / "clone"
    dataset(folder / "data/raw")
    added = toy.dvc(folder, "add", *(f"data/raw/{name}" for name in ("train", "test", "ground_truth")))
    assert added.returncode == 0, added.stderr
    toy.git(folder, "add", "-A")
    toy.git(folder, "commit", "-qm", "own pictures")
    assert "data/raw/train.dvc" in toy.git(folder, "ls-files", "data/raw")
    done = toy.dvc(folder, "exp", "run", "--temp", "fetch")
    assert done.returncode == 0, done.stderr
    for command in (["remote", "add", "-d", "store", str(tmp_path / "store")], ["push"]):
        assert toy.dvc(folder, *command).returncode == 0
    toy.git(folder, "commit", "-qam", "remote")
    toy.git(folder, "clone", "-q", str(folder), str(clone))
    done = toy.dvc(clone, "repro", "fetch")
    assert done.returncode != 0 and "missing data 'source': data/raw/" in done.stderr
    assert (
        toy.dvc(clone, "pull", *(f"data/raw/{name}.dvc" for name in ("train", "test", "ground_truth"))).returncode == 0
    )
    done = toy.dvc(clone, "repro", "fetch")
    assert done.returncode == 0, done.stderr
    assert (clone / "data/train/index.csv").is_file()
