"""Links and tracked folders in data/raw: what is read is what DVC hashes, or it is refused."""

import os
import shutil
from pathlib import Path

import pytest
from conftest import one_line
from dvc.repo import Repo
from fetching import dataset, fetch

from edge.errors import UserError
from stages.fetch import watched


def test_dvc_follows_links_to_files_and_not_to_folders(here):
    """The reason for what is refused, seen in DVC itself."""
    for name in ("raw", "out/folder"):
        Path(name).mkdir(parents=True)
    for name in ("out/file", "out/folder/file"):
        Path(name).write_text("1")
    Path("raw/file").symlink_to(here / "out/file")
    Path("raw/folder").symlink_to(here / "out/folder")
    Path("dvc.yaml").write_text("stages: {a: {cmd: touch b, deps: [raw], outs: [b]}}")
    repo = Repo.init(no_scm=True)
    repo.reproduce()
    assert not repo.status()
    Path("out/folder/file").write_text("2")
    assert not repo.status(), "DVC looks into linked folders now: follow them"
    Path("out/file").write_text("2")
    assert repo.status()


def test_a_link_to_a_file_is_read(here, capsys):
    dataset(here / "data/raw")
    shutil.move("data/raw/test/dent/000.png", "one.png")
    Path("data/raw/test/dent/000.png").symlink_to(here / "one.png")
    assert len(fetch("folder")) == 19
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["train", "train/good", "test/dent", "ground_truth/hole"])
@pytest.mark.parametrize("path", [None, "data/raw", "data/../data/raw/", "linked", "absolute"])
def test_a_link_to_a_folder_is_refused(here, name, path):
    dataset(here / "data/raw")
    Path("linked").symlink_to(here / "data/raw")
    shutil.move(f"data/raw/{name}", "elsewhere")
    Path("data/raw", name).symlink_to(here / "elsewhere")
    with pytest.raises(UserError) as caught:
        fetch("folder", path=str(here / "data/raw") if path == "absolute" else path)
    line = one_line(caught)
    assert f"{name}: a link to a folder, in which DVC sees no change; move the folder there" in line
    assert line.endswith(f"set data.path to {here}/elsewhere, which DVC doesn't watch")
    assert not Path("data/train").exists()


def test_so_is_a_data_path_that_is_or_goes_through_one(here):
    dataset(here / "elsewhere/mine")
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/link").symlink_to(here / "elsewhere")
    for path in ("data/raw/link", "data/raw/link/mine"):
        with pytest.raises(UserError, match="data/raw/link: a link to a folder"):
            fetch("folder", path=path)
    assert len(fetch("folder", path="elsewhere/mine")) == 19, "DVC watches nothing there, as the docs say"
    fetch("synthetic", synthetic={"size": 32, "train": 4, "test_good": 2, "test_per_defect": 1})  # reads no data/raw


def test_data_raw_itself_may_be_a_link(here):
    dataset(here / "elsewhere")
    Path("data").mkdir()
    Path("data/raw").symlink_to(here / "elsewhere")
    assert len(fetch("folder")) == 19


@pytest.mark.parametrize("name", ["train", "test", "ground_truth", "ground_truth/hole"])
def test_what_dvc_tracks_and_is_not_here_is_named(here, name):
    """Masks, too, which a defect type may lack: without them other figures would come out."""
    dataset(here / "data/raw")
    shutil.rmtree(f"data/raw/{name}")
    Path(f"data/raw/{name}.dvc").write_text("outs: []")
    with pytest.raises(UserError) as caught:
        fetch("folder")
    line = f"data/raw/{name}: tracked by DVC, but not here; run dvc pull data/raw/{name}.dvc"
    assert one_line(caught).startswith(line)
    dataset(here / "data/raw/mine")
    shutil.move("data/raw/mine", "own")
    Path("data/raw/mine.dvc").write_text("outs: []")
    with pytest.raises(UserError, match="data/raw/mine: tracked by DVC, but not here"):
        fetch("folder", path="data/raw/mine")


def test_what_is_no_path_is_left_to_the_source(here):
    loop = here / "loop"
    loop.symlink_to(loop)
    for path in ("a\0b", "loop", "x" * 5000, os.devnull):
        assert not watched.is_watched(path)
        watched.check(path)
