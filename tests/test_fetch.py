"""The fetch stage: what it writes and who gets into which split."""

import itertools
import os
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT
from fetching import content, dataset, fetch, mask, picture

from edge.errors import UserError
from stages.common.dataset import read_index
from stages.fetch.picture import Picture
from stages.fetch.sources import mtd
from stages.fetch.split import split

pytestmark = pytest.mark.usefixtures("here")


# what is written


@pytest.mark.slow
def test_stage_runs_as_dvc_runs_it(here):
    shutil.copy(ROOT / "params.yaml", here)
    shutil.copy(ROOT / "dvc.yaml", here)
    params = (here / "params.yaml").read_text().replace("size: 128 ", "size: 48 ").replace("train: 160 ", "train: 20 ")
    (here / "params.yaml").write_text(params)
    command = [sys.executable, "-m", "stages.fetch"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert first.returncode == 0, first.stderr
    written = content()
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    assert content() == written
    assert {name.split("/")[0] for name in written} == {"train", "test"}
    splits = [item.split for item in read_index("data/train")]
    assert (splits.count("train"), splits.count("val")) == (17, 3)
    for folder in ("data/train", "data/test"):
        items = read_index(folder)
        assert [i.path for i in items] == sorted(i.path for i in items)
        listed = {i.path for i in items} | {i.mask for i in items if i.mask} | {"index.csv"}
        assert listed == content(folder).keys()
    assert all(bool(i.mask) == bool(i.label) == (i.defect != "good") for i in read_index("data/test"))

    (here / "params.yaml").write_text(params.replace("source: synthetic", "source: folder"))
    failed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1 and content() == written
    assert failed.stderr == "error: fetch: data/raw: no such file or folder; correct data.path\n"


def test_folder_copies_byte_for_byte_and_keeps_the_given_split(here):
    root = dataset(here / "data/raw")
    (root / "test/good/.hidden.png").write_bytes(b"no picture")
    (root / "README.md").write_text("hello")
    picture(root / "train/good/UPPER.JPG", 57)
    picture(root / "train/good/a.webp", 58)
    items = fetch("folder")
    assert sorted(i.split for i in items) == ["test"] * 7 + ["train"] * 12 + ["val"] * 2
    for item in items:
        out, source = ("test", "test") if item.split == "test" else ("train", "train")
        name = item.path.removeprefix("images/")
        assert Path("data", out, item.path).read_bytes() == (root / source / name).read_bytes()
        assert item.group == f"{source}/{name}"
        if item.label:
            assert item.mask == f"masks/{name.replace('.png', '_mask.png')}"
            assert Path("data/test", item.mask).read_bytes() == mask(here / "m.png").read_bytes()


def test_folder_without_test_good_holds_some_out(here):
    dataset(here / "mine", train=20, good=0, masks=False)
    items = fetch("folder", path="mine", test_fraction=0.25, val_fraction=0.2)
    counts = {s: sum(i.split == s and not i.label for i in items) for s in ("train", "val", "test")}
    assert counts == {"train": 12, "val": 3, "test": 5}
    assert not any(i.mask for i in items)


def test_another_seed_is_another_split(here):
    dataset(here / "mine")
    picks = {seed: {i.path for i in fetch("folder", path="mine", seed=seed) if i.split == "val"} for seed in range(6)}
    assert len({frozenset(paths) for paths in picks.values()}) > 2


def test_mvtec_from_archive_root_and_category_are_the_same(here):
    dataset(here / "root/bottle")
    dataset(here / "root/tile", train=9)
    (here / "root/license.txt").write_text("words")
    with tarfile.open("set.tar.xz", "w:xz") as out:
        out.add("root", arcname=".")
    shutil.copytree("root/bottle", "bottle")
    (here / "mirror").mkdir()
    shutil.copy("set.tar.xz", "mirror")
    results = []
    for path in ("set.tar.xz", "mirror", "root", "root/bottle", "bottle"):
        assert len(fetch("mvtec", path=path)) == 19
        results.append(content())
    assert all(r == results[0] for r in results) and not Path("data/.fetch.tmp").exists()
    assert len(fetch("mvtec", path="set.tar.xz", category="tile")) == 16


# the split


def brute_force_components(pictures, digests):
    """Indices joined by group or content, by repeated scanning."""
    label = list(range(len(pictures)))
    changed = True
    while changed:
        changed = False
        for a, b in itertools.combinations(range(len(pictures)), 2):
            if (pictures[a].group == pictures[b].group or digests[a] == digests[b]) and label[a] != label[b]:
                label[a] = label[b] = min(label[a], label[b])
                changed = True
    return label


@pytest.mark.parametrize("ours", [True, False])
def test_split_rules_hold_for_random_sources(ours, capsys):
    for seed in range(40):
        rng = random.Random(seed)
        pictures, digests = [], []
        for i in range(60):
            origin, defect = rng.choice(
                [("any" if ours else "train", "good")] * 6 + [("test", "bad"), ("test", "good")]
            )
            if ours and origin == "test":
                defect = "bad"
            pictures.append(Picture(Path(f"{i}"), f"{i}", defect, None, f"g{rng.randrange(45)}", origin))
            digests.append(f"d{rng.randrange(90)}")
        data = SimpleNamespace(split="unsupervised", val_fraction=0.2, test_fraction=0.3, seed=seed)
        rows = split(pictures, digests, data)
        assert rows == split(pictures, digests, data)
        label = brute_force_components(pictures, digests)
        where = {}
        for i, name, group in rows:
            where.setdefault(label[i], set()).add((name, group))
        assert all(len(places) == 1 for places in where.values())  # no group straddles, and it has one name
        assert len({next(iter(places))[1] for places in where.values()}) == len(where)
        kept = {i: name for i, name, _ in rows}
        assert len(kept) == len(rows)
        tested = {label[i] for i, p in enumerate(pictures) if p.origin == "test"}
        for i, p in enumerate(pictures):
            if p.origin == "test":
                assert kept[i] == "test"
            elif label[i] in tested:
                twin = any(digests[i] == digests[j] for j, q in enumerate(pictures) if q.origin == "test")
                assert kept.get(i) == ("test" if ours and not twin else None)
            else:
                assert i in kept if ours else kept[i] in ("train", "val")
        assert set(kept.values()) == {"train", "val", "test"}
        assert all(pictures[i].defect == "good" for i, name in kept.items() if name != "test")
        # the drawn shares are never exceeded except by the one group that must be there, and are nearly reached
        learn = sum(name != "test" for name in kept.values())
        largest = max(label.count(x) for x in label)
        val = sum(name == "val" for name in kept.values())
        assert abs(val - 0.2 * learn) < largest + 1
    capsys.readouterr()


def test_duplicate_of_a_test_picture_leaves_train(here, capsys):
    root = dataset(here / "mine")
    shutil.copy(root / "test/good/001.png", root / "train/good/copy.png")
    shutil.copy(root / "test/hole/000.png", root / "train/good/bad.png")
    items = fetch("folder", path="mine")
    assert len(items) == 12 + 3 + 4
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out of train")]
    assert len(lines) == 2 and "bad.png is the same file as the test picture" in lines[0]
    assert lines[1].split()[4].endswith("train/good/copy.png") and lines[1].endswith("test/good/001.png")


def test_duplicates_in_train_stay_together(here):
    root = dataset(here / "mine", train=6, good=0)
    for i in range(6):
        for copy in range(2):
            shutil.copy(root / f"train/good/{i:03d}.png", root / f"train/good/{i:03d}_{copy}.png")
    for seed in range(5):
        splits = {}
        for item in fetch("folder", path="mine", seed=seed):
            splits.setdefault(item.sha256, set()).add((item.split, item.group))
        assert all(len(s) == 1 for s in splits.values())


def test_too_few_good_pictures(here):
    root = dataset(here / "mine", train=1)
    with pytest.raises(UserError, match="no good picture for train"):
        fetch("folder", path="mine")
    for i in range(5):
        shutil.copy(root / "train/good/000.png", root / f"train/good/copy{i}.png")
    with pytest.raises(UserError, match="can't be divided"):
        fetch("folder", path="mine")
    assert not Path("data/train").exists() and not Path("data/test").exists()


def test_tiles_are_grouped_by_frame_number():
    names = mtd.group_names(["exp1_num_100", "exp2_num_200", "exp3_num_301", "exp1_num_402", "odd", "exp1_num_5924"])
    assert names["exp1_num_100"] == names["exp2_num_200"] == "tile_000100"
    assert len(set(names.values())) == 5 and names["odd"] == "odd"
    again = mtd.group_names(["exp1_num_5924", "exp5_num_13549"])  # listed as one tile that came back
    assert len(set(again.values())) == 1


# the real magnetic tiles


@pytest.mark.slow
@pytest.mark.assets
def test_magnetic_tiles(here, assets):
    items = fetch("mtd", path=str(assets / "data"))
    count = {s: [sum(i.split == s and i.label == label for i in items) for label in (0, 1)] for s in ("train", "test")}
    val = [i for i in items if i.split == "val"]
    assert sum(not i.label for i in items) == 952 and count["test"][1] == 392
    assert count["test"][0] == 190 and len(val) == 114 and count["train"] == [648, 0]
    defects = {"blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 103}
    assert {d: sum(i.defect == d for i in items) for d in defects} == defects
    places = {}
    for item in items:
        places.setdefault(item.group, set()).add(item.split)
    assert all(len(p) == 1 for p in places.values()) and len(places) > 150
    frames = {int(Path(i.path).stem.split("_")[-1]): i.split for i in items}
    ordered = sorted(frames)
    assert all(frames[a] == frames[b] for a, b in itertools.pairwise(ordered) if b - a <= mtd.FRAMES)
    assert all(frames[a] == frames[b] for a, b in mtd.SAME_TILE)
    assert all(bool(i.mask) == bool(i.label) for i in items)

    alone = fetch("mtd", path=str(assets / "data"), group_near_duplicates=False)
    drawn = {s: sum(i.split == s and not i.label for i in alone) for s in ("train", "val", "test")}
    assert drawn == {"train": 648, "val": 114, "test": 190} and len({i.group for i in alone}) > 1300
    tiles = {item.path: item.group for item in items}
    assert all(item.part == tiles[item.path] for item in alone) and not any(item.part for item in items)


# what is left out


def test_what_is_left_out_is_counted_and_said(here, capsys):
    root = dataset(here / "mine")
    before = sorted(item.path for item in fetch("folder", path="mine"))
    assert "left out" not in capsys.readouterr().out
    good = root / "train/good"
    picture(good / "deeper/a.png", 1)
    (good / "b.gif").write_bytes(b"GIF89a")
    (good / "notes").write_text("words")
    (good / "._000.png").write_bytes(b"resource fork")
    (good / ".DS_Store").write_bytes(b"")
    (good / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(good / "pipe.png")
    picture(root / "train/stray.png", 1)
    picture(root / "test/stray.png", 1)
    (root / "test/dent/more").mkdir()
    (root / "notes.txt").write_text("words")
    mask(root / "ground_truth/hole/old_mask.png")
    mask(root / "ground_truth/good/000_mask.png", value=0)
    assert sorted(item.path for item in fetch("folder", path="mine")) == before
    lines = [line.replace(f"{here}/", "") for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert sorted(lines) == [
        "left out of mine/ground_truth/hole: 1 masks of no picture, such as old_mask.png",
        "left out of mine/ground_truth: good/",
        "left out of mine/test/dent: 1 deeper folders",
        "left out of mine/test: stray.png",
        "left out of mine/train/good: 1 broken links, 1 deeper folders, 2 files of other kinds (.gif, no suffix), "
        "1 hidden pictures, 1 pipes or devices",
        "left out of mine/train: stray.png",
        "left out of mine: notes.txt",
    ]


def test_links_are_read_and_named(here, capsys):
    root = dataset(here / "mine")
    shutil.move(root / "train/good", "elsewhere")
    (root / "train/good").symlink_to(here / "elsewhere")
    shutil.move(root / "test/dent/000.png", "one.png")
    (root / "test/dent/000.png").symlink_to(here / "one.png")
    assert len(fetch("folder", path="mine")) == 19
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("warning"))
    assert line.startswith("warning: 13 files are links or below one, such as mine/train/good/000.png: they are read")
    Path("linked").symlink_to(root)
    fetch("folder", path="linked")
    assert capsys.readouterr().out.count("warning: 13 files") == 1, "where the root is doesn't matter"
