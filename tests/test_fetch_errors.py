"""The fetch stage: one clear line for every bad input, and nothing written."""

import csv
import hashlib
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from conftest import one_line
from fetching import dataset, fetch, hash_list, magnetic, mask, picture

from edge.errors import UserError
from stages.common.dataset import read_index
from stages.fetch.sources import mvtec

pytestmark = pytest.mark.usefixtures("here")


# errors


def broken(root, what):
    """Makes one thing wrong with the dataset; returns what the error must say."""
    image = root / "test/dent/001.png"
    if what == "text":
        image.write_text("not a picture")
        return r"test/dent/001\.png: not a readable picture"
    if what == "empty":
        image.write_bytes(b"")
        return r"test/dent/001\.png: not a readable picture"
    if what == "cut png":
        image.write_bytes(image.read_bytes()[:-500])
        return r"test/dent/001\.png: .*(cut off|not a readable)"
    if what == "cut jpeg":
        whole = picture(root / "test/dent/x.jpg", 1, (80, 80))
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        mask(root / "ground_truth/dent/x_mask.png", (80, 80))
        return r"test/dent/x\.jpg: .*(cut off|not a readable)"
    if what == "train":
        shutil.rmtree(root / "train/good")
        return "train/good: no such folder"
    if what == "no picture":
        shutil.rmtree(root / "train/good")
        (root / "train/good").mkdir()
        return "train/good: holds no picture"
    if what == "empty type":
        (root / "test/new").mkdir()
        return "test/new: holds no picture"
    if what == "no test":
        shutil.rmtree(root / "test")
        return "test: no such folder"
    if what == "no defect":
        for kind in ("dent", "hole"):
            shutil.rmtree(root / "test" / kind)
        return "test: no defect type"
    if what == "bad in train":
        picture(root / "train/bad/0.png", 1)
        return "train/bad: only train/good"
    if what == "mask":
        (root / "ground_truth/hole/000_mask.png").unlink()
        return r"test/hole/000\.png: no mask .*ground_truth/hole/000_mask\.png"
    if what == "mask size":
        mask(root / "ground_truth/hole/000_mask.png", (24, 20))
        return r"hole/000_mask\.png: the mask is 20x24 px, its image 000\.png 24x20 px"
    if what == "broken mask":
        (root / "ground_truth/hole/000_mask.png").write_bytes(b"x")
        return r"hole/000_mask\.png: not a readable"
    if what in ("Good", "GOOD", "good "):
        (root / "test/good").rename(root / "test" / what)
        return f"test/{what}: rename it to good"
    if what in ("TEST", "Ground_Truth"):
        (root / what.lower()).rename(root / what)
        return f"{what}: rename it to {what.lower()}"
    if what == "train/Good":
        (root / "train/good").rename(root / "train/Good")
        return "train/Good: rename it to good"
    if what == "Hole":
        (root / "ground_truth/hole").rename(root / "ground_truth/Hole")
        return "ground_truth/Hole: masks of no defect type, there is no test/Hole; correct its name"
    if what == "masks":
        for file in (root / "ground_truth/hole").iterdir():
            file.rename(root / "ground_truth" / file.name)
        (root / "ground_truth/hole").rmdir()
        return "ground_truth/000_mask.png: a mask outside a defect type; move it to ground_truth/<defect type>"
    image.rename(image.with_name("a\nb.png"))
    return "unprintable"


WRONG = (
    *("text", "empty", "cut png", "cut jpeg", "train", "no picture", "empty type", "no test", "no defect"),
    *("bad in train", "mask", "mask size", "broken mask", "name"),
    *("Good", "GOOD", "good ", "TEST", "Ground_Truth", "train/Good", "Hole", "masks"),
)


@pytest.mark.parametrize("source", ["folder", "mvtec"])
@pytest.mark.parametrize("what", WRONG)
def test_wrong_pictures(here, source, what):
    root = dataset(here / "bottle")
    message = broken(root, what)
    with pytest.raises(UserError, match=message) as error:
        fetch(source, path="bottle")
    assert "\n" not in str(error.value)
    assert not any(Path("data").iterdir())


def test_masks_are_optional_by_type_in_a_folder_only(here):
    root = dataset(here / "bottle")
    shutil.rmtree(root / "ground_truth/hole")
    items = fetch("folder", path="bottle")
    assert {i.defect for i in items if i.label and not i.mask} == {"hole"}
    with pytest.raises(UserError, match="ground_truth/hole: no such folder"):
        fetch("mvtec", path="bottle")


@pytest.mark.parametrize("name", ["ok", "OK", "Normal"])
def test_a_type_that_sounds_good_is_named(here, name, capsys):
    root = dataset(here / "mine", masks=False)
    (root / "test/hole").rename(root / "test" / name)
    assert name in {item.defect for item in fetch("folder", path="mine")}
    lines = [line for line in capsys.readouterr().out.splitlines() if "counts as a defect" in line]
    assert (
        len(lines) == 1
        and f"test/{name}/000.png: its type '{name}' counts as a defect; good pictures are called good" in lines[0]
    )


def test_empty_mask_is_kept_with_a_warning(here, capsys):
    mask(dataset(here / "mine") / "ground_truth/hole/000_mask.png", value=0)
    fetch("folder", path="mine")
    assert "hole/000_mask.png: the mask marks no pixel; kept" in capsys.readouterr().out


def test_paths_and_categories(here):
    dataset(here / "root/bottle")
    for source in ("folder", "mvtec", "mtd"):
        with pytest.raises(UserError, match=r"gone: no such file or folder; correct data\.path"):
            fetch(source, path="gone")
    with pytest.raises(UserError, match=r"no category 'car'; set data\.category to one of bottle"):
        fetch("mvtec", path="root", category="car")
    with pytest.raises(UserError, match=r"holds one category, bottle; set data\.category to bottle"):
        fetch("mvtec", path="root/bottle", category="tile")
    with pytest.raises(UserError, match="'car': no such category; choose one of bottle, cable"):
        fetch("mvtec", category="car")
    (here / "nothing").mkdir()
    for source in ("mvtec", "mtd"):
        with pytest.raises(UserError, match=r"nothing: holds neither an archive nor .*; set data\.path"):
            fetch(source, path="nothing")
    with tarfile.open("set.tar.gz", "w:gz") as out:
        out.add("root/bottle", arcname="bottle")
    with pytest.raises(UserError, match=r"set\.tar\.gz: has no category 'car'; it has bottle"):
        fetch("mvtec", path="set.tar.gz", category="car")
    with pytest.raises(UserError, match=r"set\.tar\.gz: holds no folder MT_Free/Imgs"):
        fetch("mtd", path="set.tar.gz")
    with pytest.raises(UserError, match="not a folder"):
        fetch("folder", path="set.tar.gz")
    for name in ("mirror/a.zip", "mirror/b.zip"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"")
    with pytest.raises(UserError, match=r"several archives \(a\.zip, b\.zip\)"):
        fetch("mtd", path="mirror")


PLACES = {  # what data.path names, and what is said of it
    "/dev/null": "neither a folder nor a regular file",
    "/dev/zero": "neither a folder nor a regular file",
    "pipe": "neither a folder nor a regular file",
    "~nouser/x": "can't be read",
    "x" * 300: "can't be read: File name too long",
    "x" * 4000: "can't be read: File name too long",
    "loop": "can't be read: Too many levels of symbolic links",
    "file/x": "no such file or folder",
    "/proc/self/mem": "(not a folder|not a whole archive)",
}


@pytest.mark.parametrize("source", ["folder", "mtd", "mvtec"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[:20])
def test_a_place_that_holds_no_pictures(here, source, place):
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("file").write_text("x")
    with pytest.raises(UserError, match=PLACES[place]) as error:
        fetch(source, path=place)
    message = one_line(error)
    assert len(message) < 300 and ("data.path" in message or place == "/proc/self/mem")
    assert not any(Path("data").iterdir())


LISTS = {  # what data.hashes names, and what is said of it
    "/dev/zero": "/dev/zero: not a regular file",
    "/dev/null": "/dev/null: not a regular file",
    "pipe": "pipe: not a regular file",
    ".": "not a regular file",
    "/proc/self/mem": "can't be read: Input/output error",
    "~nouser/x": "can't be read: no such user",
    "x" * 300: "can't be read: File name too long",
    "a\0b": "can't be read: embedded null byte",
    "nul": "nul:1: not a line of sha256sum",
    "latin": "not UTF-8: line 2 holds the byte 0xfc",
    "sparse": "larger than 256 MiB",
}


@pytest.mark.parametrize("source", ["folder", "mvtec"])
@pytest.mark.parametrize("name", LISTS, ids=lambda name: repr(name[:20]))
def test_a_list_of_hashes_that_is_no_such_file(here, source, name):
    dataset(here / "bottle")
    os.mkfifo("pipe")
    Path("nul").write_bytes(b"\0" * 1000)
    Path("latin").write_bytes(b"# hashes\n" + b"0" * 64 + b"  gr\xfcn.png\n")
    with open("sparse", "wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(UserError, match=LISTS[name]) as error:
        fetch(source, path="bottle", hashes=name)
    assert len(one_line(error)) < 300


@pytest.mark.parametrize("group", ["pipe.csv:part", "~nouser/x.csv:part", f"{'x' * 300}.csv:part", "latin.csv:part"])
def test_a_list_of_groups_that_is_no_such_file(here, group):
    dataset(here / "mine")
    os.mkfifo("pipe.csv")
    Path("latin.csv").write_bytes(b"path,part\ngr\xfcn.png,1\n")
    with pytest.raises(UserError, match=r"^data\.group = ") as error:
        fetch("folder", path="mine", group=group)
    assert len(one_line(error)) < 400


def test_a_pipe_among_the_pictures_is_not_waited_for(here):
    listed = magnetic(here / "tiles")
    picture = next((here / "tiles/MT_Crack/Imgs").glob("*.jpg"))
    picture.unlink()
    os.mkfifo(picture)
    with pytest.raises(UserError, match=rf"{picture.name}: not a regular file"):
        fetch("mtd", path="tiles", hashes=listed)


def served(here, monkeypatch, **changes):
    """The stage on an archive of the category bottle that has been downloaded from an address of one's own."""
    dataset(here / "root/bottle")
    with tarfile.open("mirror.tar.xz", "w:xz") as out:
        out.add("root/bottle", arcname="bottle")
    asked = []

    def download(url, name, listed):
        asked.append((url, listed))
        return Path("mirror.tar.xz")

    monkeypatch.setattr(mvtec.download, "fetch", download)
    return fetch("mvtec", **changes), asked


def test_a_download_of_no_known_hash_is_said_and_marked_in_the_index(here, monkeypatch, capsys):
    items, asked = served(here, monkeypatch, url="https://user:secret@example.org/mirror.tar.xz")
    digest = hashlib.sha256(Path("mirror.tar.xz").read_bytes()).hexdigest()
    lines = [line for line in capsys.readouterr().out.splitlines() if "UNVERIFIED" in line]
    assert len(lines) == 1 and digest in lines[0] and "secret" not in lines[0] and "data.hashes" in lines[0]
    assert asked == [("https://user:secret@example.org/mirror.tar.xz", False)]
    assert all(item.unverified for item in items)
    with open("data/test/index.csv") as stream:
        assert all(row["unverified"] == "1" for row in csv.DictReader(stream))


def test_a_verified_download_leaves_the_index_as_it_was(here, monkeypatch, capsys):
    dataset(here / "root/bottle")
    files = sorted((here / "root/bottle").rglob("*.png"))
    listed = hash_list(here / "list", here / "root", files)
    _, asked = served(here, monkeypatch, url="http://example.org/mirror.tar.xz", hashes=listed)
    assert "UNVERIFIED" not in capsys.readouterr().out and asked == [("http://example.org/mirror.tar.xz", True)]
    assert Path("data/test/index.csv").read_text().splitlines()[0] == "path,split,label,defect,mask,sha256,group"
    assert not any(item.unverified for item in read_index("data/test"))


@pytest.mark.parametrize("place", ["data", "data/train", "data/train/images", "data/test", "data/.fetch.tmp/pictures"])
def test_pictures_where_fetch_writes_are_refused_and_stay(here, place):
    dataset(here / place)
    before = sorted(path for path in (here / place).rglob("*") if path.is_file())
    for path in (place, str(here / place)):
        with pytest.raises(UserError, match=r"data\.path = .*: fetch writes there; move the pictures to data/raw"):
            fetch("folder", path=path)
    assert before and before == sorted(path for path in (here / place).rglob("*") if path.is_file())
