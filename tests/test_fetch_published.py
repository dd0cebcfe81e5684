"""The published data sets in their own layouts: what is read, into which split, and one line for what is wrong."""

import csv
import hashlib
import re
import shutil
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from conftest import one_line
from fetching import btad, commutators, content, dagm, fetch, hash_list, mask, picture, surfaces, visa

from edge.errors import UserError
from stages.fetch.sources import btad as btad_source

pytestmark = pytest.mark.usefixtures("here")

# source: (how a small one is made, the category, an entry of each split with and without labels)
SETS = {
    "dagm": (dagm, "Class1"),
    "visa": (visa, "candle"),
    "kolektor": (surfaces, "bottle"),
    "btad": (btad, "03"),
}


def counts(items):
    return Counter((item.split, item.defect) for item in items)


def test_dagm_learns_from_the_defects_of_train_only_when_supervised(here, capsys):
    dagm(here / "set")
    found = counts(fetch("dagm", path="set", category="Class1"))
    assert found == {("train", "good"): 5, ("val", "good"): 1, ("test", "good"): 6, ("test", "defect"): 3}
    assert "left out: 3 defects of the source's train split" in capsys.readouterr().out
    items = fetch("dagm", path="set", category="Class1", split="supervised", val_fraction=0.34)
    assert counts(items) == {
        ("train", "good"): 4, ("val", "good"): 2, ("test", "good"): 6,
        ("train", "defect"): 2, ("val", "defect"): 1, ("test", "defect"): 3,
    }  # fmt: skip
    for item in items:
        folder = Path("data", "test" if item.split == "test" else "train")
        assert (folder / item.path).is_file() and bool(item.mask) == bool(item.label)
        half = "Test" if item.split == "test" else "Train"
        original = here / f"set/Class1/{half}/{item.path.rpartition('_')[2]}"
        assert (folder / item.path).read_bytes() == original.read_bytes()
        if item.mask:
            label = here / f"set/Class1/{half}/Label/{original.stem}_label.PNG"
            assert (folder / item.mask).read_bytes() == label.read_bytes()


def test_visa_has_its_types_and_its_split(here):
    visa(here / "set")
    items = fetch("visa", path="set", category="candle")
    assert counts(items) == {
        ("train", "good"): 7, ("val", "good"): 1, ("test", "good"): 3,
        ("test", "melted wax"): 1, ("test", "chip"): 1, ("test", "combined"): 1,
    }  # fmt: skip
    assert {i.path for i in items if i.split == "test" and not i.label} == {
        f"images/good/{i:04d}.JPG" for i in (8, 9, 10)
    }


@pytest.mark.parametrize(("category", "ending"), [("01", "png"), ("03", "bmp")])
def test_btad_takes_masks_of_any_ending(here, category, ending):
    btad(here / "set")
    items = fetch("btad", path="set", category=category)
    assert counts(items) == {("train", "good"): 7, ("val", "good"): 1, ("test", "good"): 3, ("test", "ko"): 3}
    assert {Path(item.mask).suffix for item in items if item.mask} == {f".{ending}"}
    assert len({item.path for item in items}) == len(items), "train/ok and test/ok have files of the same name"


def test_kolektor_sdd_keeps_items_whole_only_when_supervised(here):
    commutators(here / "set", items=10)
    items = fetch("kolektor", path="set")
    assert Counter(i.defect for i in items) == {"good": 20, "defect": 10}
    assert all(i.split == "test" for i in items if i.label) and {i.split for i in items if not i.label} == {
        "train", "val", "test",
    }  # fmt: skip
    items = fetch("kolektor", path="set", split="supervised")
    places = {}
    for item in items:
        places.setdefault(item.path.rpartition("/")[2][:5], set()).add(item.split)
    assert len(items) == 30 and len(places) == 10 and all(len(splits) == 1 for splits in places.values())
    assert {(i.split, i.label) for i in items} == {(s, label) for s in ("train", "val", "test") for label in (0, 1)}


def test_kolektor_sdd2_has_its_own_split(here):
    surfaces(here / "set")
    assert counts(fetch("kolektor", path="set")) == {
        ("train", "good"): 5, ("val", "good"): 1, ("test", "good"): 6, ("test", "defect"): 3,
    }  # fmt: skip
    found = counts(fetch("kolektor", path="set", split="supervised"))
    assert found["train", "defect"] + found["val", "defect"] == 3 and found["test", "defect"] == 3


def packed(here, form):
    """The folder `set` as an archive, inside a folder of another name."""
    if form == "zip":
        with zipfile.ZipFile("set.zip", "w") as out:
            for path in sorted(Path("set").rglob("*.*")):
                out.write(path, f"Whole/{path.relative_to('set')}")
        return "set.zip"
    with tarfile.open("set.tar", "w") as out:
        out.add("set", arcname=".")
    return "set.tar"


@pytest.mark.parametrize("source", SETS)
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_folder_archive_and_the_folders_around_them_are_the_same(here, source, form):
    make, category = SETS[source]
    make(here / "set")
    fetch(source, path="set", category=category)
    wanted = content()
    archive = packed(here, form)
    (here / "around").mkdir()
    shutil.copytree("set", "around/inner")
    (here / "mirror").mkdir()
    shutil.copy(archive, "mirror")
    for path in (archive, "around", "mirror", *((f"set/{category}",) if source != "kolektor" else ())):
        fetch(source, path=path, category=category)
        assert content() == wanted, path


@pytest.mark.parametrize("source", SETS)
def test_a_list_made_as_the_docs_say_verifies_every_picture_and_mask(here, source):
    make, category = SETS[source]
    root = make(here / "set")
    inside = root if source == "kolektor" else root / category
    files = sorted(p for p in inside.rglob("*") if p.suffix.lower() in (".jpg", ".bmp", ".png"))
    listed = hash_list(here / "list", root, files)
    assert fetch(source, path="set", category=category, hashes=listed)
    original = files[-1].read_bytes()
    picture(files[-1], 999)
    with pytest.raises(UserError, match=rf"{files[-1].name}: different \(1 different of {len(files)} listed files\)"):
        fetch(source, path="set", category=category, hashes=listed)
    files[-1].write_bytes(original)
    Path(listed).write_text("0" * 64 + "  elsewhere/a.png\n")
    with pytest.raises(UserError, match=r"lists neither files of .* nor the archive|elsewhere/a\.png: missing"):
        fetch(source, path="set", category=category, hashes=listed)


def test_a_known_archive_is_checked_and_one_from_elsewhere_is_marked(here, monkeypatch, capsys):
    btad(here / "set")
    archive = Path(packed(here, "zip")).rename(btad_source.KNOWN.file)
    with pytest.raises(UserError, match=rf"btad\.zip: its sha256 is not {btad_source.KNOWN.sha256}; replace the file"):
        fetch("btad", path=str(archive), category="03")
    listed = here / "list"
    listed.write_text(f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  btad.zip\n")
    assert len(fetch("btad", path=str(archive), category="03", hashes=str(listed))) == 14
    monkeypatch.setattr("stages.fetch.download.fetch", lambda url, name, listed: archive)
    items = fetch("btad", url="https://example.org/btad.zip", category="03")
    assert "UNVERIFIED" in capsys.readouterr().out and all(item.unverified for item in items)
    with open("data/test/index.csv") as stream:
        assert all(row["unverified"] == "1" for row in csv.DictReader(stream))


@pytest.mark.parametrize(("source", "page"), [("dagm", "hci"), ("kolektor", "vicos")])
def test_what_has_no_address_says_where_to_get_it(source, page):
    with pytest.raises(UserError, match=rf"data\.path is null, but .* isn't downloaded; get it from \S*{page}"):
        fetch(source, category="Class1")


@pytest.mark.parametrize("source", ["dagm", "visa", "btad"])
def test_categories_that_are_none_or_not_there(here, source):
    make, category = SETS[source]
    make(here / "set")
    with pytest.raises(UserError, match=r"data\.category = 'bottle': .* has no such category; choose one of"):
        fetch(source, path="set")
    other = {"dagm": "Class7", "visa": "pcb1", "btad": "02"}[source]
    for path in ("set", packed(here, "zip")):
        with pytest.raises(UserError, match=rf"has no category '{other}'; set data\.category to one of .*{category}"):
            fetch(source, path=path, category=other)


@pytest.mark.parametrize("source", SETS)
def test_places_without_the_data_set(here, source):
    category = SETS[source][1]
    (here / "nothing").mkdir()
    with pytest.raises(UserError, match=r"nothing: holds neither an archive nor .*; set data\.path"):
        fetch(source, path="nothing", category=category)
    with pytest.raises(UserError, match=r"gone: no such file or folder; correct data\.path"):
        fetch(source, path="gone", category=category)
    with zipfile.ZipFile("other.zip", "w") as out:
        out.writestr("a/b/c.png", b"x")
    with pytest.raises(UserError, match=r"other\.zip: holds no .*; is it the archive of"):
        fetch(source, path="other.zip", category=category)
    assert not any(Path("data").iterdir())


LABELS = {  # what is replaced in Class1/Test/Label/Labels.txt, and what is said
    "three columns": ("0004.PNG\t0\t0", "0004.PNG", r":5: not a row of number"),
    "label": ("4\t0\t0004", "4\t2\t0004", r":5: not a row of number, 0 or 1"),
    "no mask": ("0001_label.PNG", "0", r":2: 0001\.PNG is defective without a mask"),
    "good with a mask": ("0004.PNG\t0\t0", "0004.PNG\t0\t0001_label.PNG", r":5: 0004\.PNG is good with a mask"),
    "mask twice": ("0002_label", "0001_label", r":3: the mask 0001_label\.PNG is that of line 2 too"),
    "mask gone": ("0001_label", "0009_label", r"0009_label\.PNG: the mask of 0001\.PNG is missing"),
    "mask outside": ("0001_label.PNG", "../x", r"the mask of 0001\.PNG is missing"),
    "picture twice": ("0005.PNG", "0004.PNG", r":6: lists 0004\.PNG, which is not in .*, or twice"),
    "picture unlisted": ("9\t0\t0009.PNG\t0\t0\n", "", r"says nothing of 1 pictures, such as .*0009\.PNG"),
}


@pytest.mark.parametrize("wrong", LABELS)
def test_a_label_file_with_an_error_is_named_with_its_line(here, wrong):
    table = dagm(here / "set") / "Class1/Test/Label/Labels.txt"
    old, new, message = LABELS[wrong]
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        fetch("dagm", path="set", category="Class1")
    assert "Label" in one_line(error) and not any(Path("data").iterdir())


def test_a_label_file_may_have_dos_line_ends_and_no_heading(here):
    table = dagm(here / "set") / "Class1/Train/Label/Labels.txt"
    table.write_bytes(table.read_text().partition("\n")[2].replace("\n", "\r\n").encode())
    assert len(fetch("dagm", path="set", category="Class1")) == 15
    table.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"Labels\.txt: not UTF-8: line 1"):
        fetch("dagm", path="set", category="Class1")
    table.unlink()
    with pytest.raises(UserError, match=r"Labels\.txt: can't be read: .*; put the label file back"):
        fetch("dagm", path="set", category="Class1")


SPLITS = {  # what is done to split_csv/1cls.csv, and what is said
    "split": (("candle,train,normal", "candle,val,normal"), r"0000\.JPG: val, normal: not a split and a label"),
    "label": (("test,anomaly", "test,odd"), r"000\.JPG: test, odd: not a split and a label"),
    "no mask": ((",candle/Data/Masks/Anomaly/000.png", ","), r"000\.JPG: anomaly without a mask"),
    "missing": (("Normal/0000.JPG", "Normal/7777.JPG"), r"7777\.JPG: listed in split_csv/1cls\.csv but missing"),
    "outside": (("candle/Data/Images/Normal/0000.JPG", "../0000.JPG"), r"names a file outside"),
    "twice": (("Normal/0001.JPG", "Normal/0000.JPG"), r"lists candle/Data/Images/Normal/0000\.JPG twice"),
    "columns": (("object,split", "object,part"), r"1cls\.csv:2: needs the columns object, split, label, image, mask"),
    "other": (("candle,", "pcb1,"), r"lists no picture of candle"),
}


@pytest.mark.parametrize("wrong", SPLITS)
def test_a_split_with_an_error_is_named(here, wrong):
    table = visa(here / "set") / "split_csv/1cls.csv"
    (old, new), message = SPLITS[wrong]
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        fetch("visa", path="set", category="candle")
    one_line(error)


def test_tables_that_are_missing(here):
    root = visa(here / "set")
    (root / "candle/image_anno.csv").rename("kept")
    with pytest.raises(UserError, match=r"image_anno\.csv: can't be read: .*; fetch the dataset again"):
        fetch("visa", path="set", category="candle")
    Path("kept").rename(root / "candle/image_anno.csv")
    (root / "split_csv/1cls.csv").unlink()
    with pytest.raises(UserError, match=r"1cls\.csv: can't be read"):
        fetch("visa", path="set", category="candle")


@pytest.mark.parametrize(
    ("source", "gone", "message"),
    [
        ("dagm", "Class1/Test", r"Class1/Test: no such folder"),
        ("dagm", "Class1/Train/Label/0001_label.PNG", r"0001_label\.PNG: the mask of 0001\.PNG is missing"),
        ("btad", "03/test/ok", r"03/test/ok: no such folder"),
        ("btad", "03/ground_truth", r"03/ground_truth/ko: no such folder"),
        ("btad", "03/ground_truth/ko/0001.bmp", r"test/ko/0001\.bmp: no mask .*ground_truth/ko/0001\.png; add it"),
        ("kolektor", "test/20000_GT.png", r"20000\.png: no mask 20000_GT\.png; add it"),
        ("visa", "candle/Data/Masks/Anomaly/000.png", r"000\.png: listed in split_csv/1cls\.csv but missing"),
    ],
)
def test_missing_folders_and_masks(here, source, gone, message):
    make, category = SETS[source]
    path = make(here / "set") / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=message) as error:
        fetch(source, path="set", category=category)
    one_line(error)


@pytest.mark.parametrize(
    ("source", "extra", "said"),
    [
        (
            "dagm",
            "Class1/Test/Label/0009_label.PNG",
            r"left out of \S*Test/Label: 1 masks of no picture, such as 0009",
        ),
        ("btad", "03/ground_truth/ko/0099.png", "left out of .*ground_truth/ko: 1 masks of no picture, such as 0099"),
        ("kolektor", "test/20000_GT (copy).png", "left out of .*test: 1 masks of no picture, such as 20000_GT"),
        ("kolektor", "test/30000_GT.png", "left out of .*test: 1 masks of no picture, such as 30000_GT"),
    ],
)
def test_masks_of_no_picture_are_said(here, source, extra, said, capsys):

    make, category = SETS[source]
    mask(make(here / "set") / extra)
    fetch(source, path="set", category=category)
    assert re.search(said, capsys.readouterr().out)
