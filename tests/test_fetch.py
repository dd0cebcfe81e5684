"""The fetch stage: what it writes, who gets into which split, and one clear line for every bad input."""

import hashlib
import itertools
import os
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from conftest import ROOT

from stages.common.dataset import read_index
from stages.common.errors import UserError
from stages.common.progress import track
from stages.fetch import __main__ as stage
from stages.fetch import mtd, mvtec
from stages.fetch.picture import Picture, is_whole, read_whole
from stages.fetch.split import split


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fetch(source, **changes):
    """Runs the stage here with the params of the project, some changed."""
    data = yaml.safe_load((ROOT / "params.yaml").read_text())["data"] | {"source": source} | changes
    data["synthetic"] = SimpleNamespace(**data["synthetic"])
    stage.run(SimpleNamespace(data=SimpleNamespace(**data)))
    return read_index("data/train") + read_index("data/test")


def content(folder="data"):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def picture(path, seed, shape=(20, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8))
    return path


def mask(path, shape=(20, 24), value=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    marks = np.zeros(shape, np.uint8)
    marks[2:6, 2:6] = value
    cv2.imwrite(str(path), marks)
    return path


def dataset(root, train=12, good=3, defects=2, masks=True):
    """A small dataset in the layout of MVTec AD."""
    for i in range(train):
        picture(root / f"train/good/{i:03d}.png", i)
    for i in range(good):
        picture(root / f"test/good/{i:03d}.png", 100 + i)
    for k, kind in enumerate(("dent", "hole")):
        for i in range(defects):
            picture(root / f"test/{kind}/{i:03d}.png", 200 + 50 * k + i)
            if masks:
                mask(root / f"ground_truth/{kind}/{i:03d}_mask.png")
    return root


def magnetic(root):
    """A small dataset in the layout of the magnetic tiles, and its list of hashes."""
    for i in range(8):
        picture(root / f"MT_Free/Imgs/exp1_num_{1000 * i}.jpg", i)
        mask(root / f"MT_Free/Imgs/exp1_num_{1000 * i}.png", value=0)
    for k, kind in enumerate(("Blowhole", "Break", "Crack", "Fray", "Uneven")):
        picture(root / f"MT_{kind}/Imgs/exp1_num_{9000 + 1000 * k}.jpg", 50 + k)
        mask(root / f"MT_{kind}/Imgs/exp1_num_{9000 + 1000 * k}.png")
    used = [p for p in sorted(root.rglob("*.*")) if p.suffix == ".jpg" or "MT_Free" not in p.parts]
    return hash_list(root.parent / "list.sha256", root, used)


def hash_list(path, root, files, prefix=""):
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {prefix}{p.relative_to(root).as_posix()}\n" for p in files]
    path.write_text("".join(lines))
    return str(path)


# what is written


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
    picture(root / "train/good/UPPER.JPG", 7)
    picture(root / "train/good/a.webp", 8)
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
        data = SimpleNamespace(val_fraction=0.2, test_fraction=0.3, seed=seed)
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
    image.rename(image.with_name("a\nb.png"))
    return "unprintable"


WRONG = (
    *("text", "empty", "cut png", "cut jpeg", "train", "no picture", "empty type", "no test", "no defect"),
    *("bad in train", "mask", "mask size", "broken mask", "name"),
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


@pytest.mark.parametrize("source", ["folder", "mvtec", "mtd"])
def test_hashes(here, source):
    if source == "mtd":
        root, listed = here / "bottle", magnetic(here / "bottle")
        files = sorted((root / "MT_Crack/Imgs").iterdir())
    else:
        root = dataset(here / "bottle")
        files = sorted((root / "test/dent").iterdir())
        prefix = "bottle/" if source == "mvtec" else ""
        listed = hash_list(here / "list.sha256", root, sorted(root.rglob("*.png")), prefix)
    fetch(source, path="bottle", hashes=listed)
    total = len(Path(listed).read_text().splitlines())

    original = files[0].read_bytes()
    picture(files[0], 999)
    with pytest.raises(UserError, match=rf"{files[0].name}: different \(1 different of {total} listed files\)"):
        fetch(source, path="bottle", hashes=listed)
    files[0].write_bytes(original)
    extra = shutil.copy(files[0], files[0].with_name("zz" + files[0].suffix))
    if source != "mtd":
        mask(root / "ground_truth/dent/zz_mask.png")
    with pytest.raises(UserError, match=r"zz.*: not in the list \(\d not in the list of"):
        fetch(source, path="bottle", hashes=listed)
    if source != "mtd":
        (root / "ground_truth/dent/zz_mask.png").unlink(missing_ok=True)
    Path(extra).unlink()
    Path(listed).write_text(Path(listed).read_text() + "0" * 64 + "  bottle/gone.png\n")
    with pytest.raises(UserError, match=r"gone\.png: missing \(1 missing of"):
        fetch(source, path="bottle", hashes=listed)


def test_lists_of_hashes_that_are_no_lists(here):
    dataset(here / "bottle")
    Path("empty").write_text("# nothing\n")
    Path("wrong").write_text("deadbeef  a.png\n")
    Path("other").write_text("0" * 64 + "  tile/a.png\n")
    for name, message in (("empty", "is empty"), ("wrong", "wrong:1: not a line"), ("none", "can't be read")):
        with pytest.raises(UserError, match=message):
            fetch("folder", path="bottle", hashes=name)
    with pytest.raises(UserError, match="lists neither files of bottle/ nor the archive"):
        fetch("mvtec", path="bottle", hashes="other")


def test_mtd_mask_missing_from_the_list_too(here):
    listed = magnetic(here / "tiles")
    gone = next((here / "tiles/MT_Crack/Imgs").glob("*.png"))
    gone.unlink()
    with pytest.raises(UserError, match=rf"{gone.name}: missing"):
        fetch("mtd", path="tiles", hashes=listed)
    lines = Path(listed).read_text().splitlines(True)
    Path(listed).write_text("".join(line for line in lines if gone.name not in line))
    with pytest.raises(UserError, match=rf"{gone.name}: the mask of .* is missing"):
        fetch("mtd", path="tiles", hashes=listed)


def test_checksum_of_the_archive(here, monkeypatch):
    dataset(here / "root/bottle")
    with tarfile.open(mvtec.FILE, "w:xz") as out:
        out.add("root", arcname=".")
    digest = hashlib.sha256(Path(mvtec.FILE).read_bytes()).hexdigest()
    with pytest.raises(UserError, match=rf"{mvtec.FILE}: its sha256 is not {mvtec.SHA256}; replace the file"):
        fetch("mvtec", path=mvtec.FILE)
    assert Path(mvtec.FILE).exists()
    Path("list").write_text(f"{digest}  {mvtec.FILE}\n")
    assert len(fetch("mvtec", path=mvtec.FILE, hashes="list")) == 19
    monkeypatch.setattr(mvtec, "SHA256", digest)
    assert len(fetch("mvtec", path=".")) == 19

    downloaded = here / "downloaded" / mvtec.FILE
    downloaded.parent.mkdir()
    downloaded.write_bytes(b"something else")
    monkeypatch.setattr(mvtec.download, "fetch", lambda url, name: downloaded)
    with pytest.raises(UserError, match="removed, run again to download it anew"):
        fetch("mvtec")
    assert not downloaded.exists()


# pictures that end early


def test_every_cut_is_noticed(here):
    for name, flags in (
        ("a.jpg", []),
        ("progressive.jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        ("restarts.jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
        ("a.png", []),
    ):
        image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
        cv2.imwrite(name, image, flags)
        data = Path(name).read_bytes()
        assert is_whole(data) and is_whole(data + b"\0" * 20), name
        for end in (*range(8, len(data) - 2, 97), len(data) - 2):
            assert not is_whole(data[:end]), (name, end)


@pytest.mark.parametrize("suffix", ["bmp", "webp", "tif"])
def test_a_cut_picture_of_another_format_is_refused_by_the_decoder(here, suffix):
    file = picture(here / f"a.{suffix}", 0, (64, 64))
    read_whole(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="not a readable picture"):
        read_whole(file)


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture(here):
    cv2.imwrite("small.jpg", np.zeros((8, 8), np.uint8))
    data = picture(here / "a.jpg", 0, (64, 64)).read_bytes()
    thumbnail = Path("small.jpg").read_bytes()
    with_thumbnail = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    assert is_whole(with_thumbnail) and not is_whole(with_thumbnail[:-500])


def test_png_with_a_wrong_checksum(here):
    data = bytearray(picture(here / "a.png", 0).read_bytes())
    assert zlib.crc32(data[12:29]) == int.from_bytes(data[29:33], "big")
    data[60] ^= 1
    assert not is_whole(bytes(data))


def test_progress_in_a_log_is_a_few_lines(capsys, monkeypatch):
    clock = itertools.count(0, 4)
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    assert list(track(range(9), "work")) == list(range(9))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "work: 9/9 done" and 2 <= len(lines) <= 4
    assert list(track(iter("ab"), "work")) == ["a", "b"]
    assert capsys.readouterr().out == "work: 2 done\n"


# the real magnetic tiles


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
