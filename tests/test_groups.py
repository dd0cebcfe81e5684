"""Pictures of one part stay on one side of the split."""

import cv2
import numpy as np
import pytest
from fetching import dataset, fetch, picture

from edge.errors import UserError

pytestmark = pytest.mark.usefixtures("here")


def shots(root, parts=8, each=3):
    """Several shots of each part in train/good: in other light and with noise, the part at rest on the same ground."""
    ground = np.random.default_rng(99).normal(0, 60, (12, 12))
    for part in range(parts):
        surface = np.random.default_rng(part).normal(0, 30, (40, 48))
        for shot in range(each):
            rng = np.random.default_rng([part, shot])
            values = 128 + cv2.resize(ground, (48, 40)) + surface * rng.uniform(0.7, 1.3) + rng.uniform(-20, 20)
            values += rng.normal(0, 3, values.shape)
            written(root / f"train/good/part{part}_{shot}.png", values)
    for i in range(3):
        picture(root / f"test/dent/{i}.png", 900 + i, (40, 48))
    return root


def written(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.clip(values, 0, 255).astype(np.uint8))


def sides(items):
    """The splits and groups of each part."""
    found = {}
    for item in items:
        if not item.label:
            part = item.path.split("/")[-1].split("_")[0]
            found.setdefault(part, set()).add((item.split, item.group))
    return found


@pytest.mark.parametrize("how", ["pattern", "csv", "found"])
def test_shots_of_one_part_are_one_group(here, how, capsys):
    shots(here / "mine")
    group = None
    if how == "pattern":
        group = r"(part\d+)_"
    if how == "csv":
        group = "parts.csv:part"
        rows = [f"train/good/part{p}_{s}.png,{p}\n" for p in range(8) for s in range(3)]
        (here / "parts.csv").write_text("path,part\n" + "".join(rows))
    for seed in range(4):
        found = sides(fetch("folder", path="mine", group=group, seed=seed, val_fraction=0.3))
        assert len(found) == 8 and all(len(places) == 1 for places in found.values())
        assert len({next(iter(places))[1] for places in found.values()}) == 8
    assert "groups: 24 pictures share 8 groups" in capsys.readouterr().out


def test_without_looking_for_them_they_straddle_and_it_is_said(here, capsys):
    shots(here / "mine")
    items = fetch("folder", path="mine", group_near_duplicates=False)
    assert any(len(places) > 1 for places in sides(items).values())
    assert "groups: none; data.group says which pictures show the same part" in capsys.readouterr().out


def test_pictures_that_only_share_their_ground_are_not_grouped(here, capsys):
    shots(here / "mine", parts=20, each=1)
    fetch("folder", path="mine")
    assert "groups: none, no near-duplicates were found" in capsys.readouterr().out


def turned(root, parts):
    """A part of one outline in each picture, each turned a little further, with a surface of its own."""
    for part in range(parts):
        rng = np.random.default_rng([7, part])
        values = np.full((96, 96), 30.0)
        surface = cv2.resize(rng.normal(0, 12, (24, 24)), (96, 96), interpolation=cv2.INTER_LINEAR)
        outline = np.zeros((384, 384), np.float32)
        cv2.ellipse(outline, (192, 192), (160, 72), 180 * part / parts, 0, 360, 1, -1)
        outline = cv2.resize(outline, (96, 96), interpolation=cv2.INTER_AREA)
        values += outline * (150 + surface) + rng.normal(0, 2, values.shape)
        written(root / f"train/good/{part:03d}.png", values)
    for i in range(3):
        picture(root / f"test/dent/{i}.png", 900 + i, (96, 96))
    return root


@pytest.mark.parametrize("copies", [0, 3])
def test_parts_of_one_outline_in_any_pose_are_told_apart_by_their_surfaces(here, capsys, copies):
    """Two shots of one part are found all the same."""
    root = turned(here / "mine", 200)
    for part in range(copies):
        rng, path = np.random.default_rng(part), root / f"train/good/{part:03d}.png"
        written(path.with_name(f"{part:03d}-again.png"), cv2.imread(str(path), 0) * 0.9 + rng.normal(0, 2, (96, 96)))
    fetch("folder", path="mine")
    out = capsys.readouterr().out
    assert "pictures would be one for their outlines; compared by surface instead" in out
    assert (f"groups: {2 * copies} pictures share {copies} groups" if copies else "groups: none") in out


def test_pictures_without_any_detail_are_not_grouped(here, capsys):
    root = dataset(here / "mine")
    for i in range(3):
        cv2.imwrite(str(root / f"train/good/plain{i}.png"), np.full((20, 24), 100 + i, np.uint8))
    fetch("folder", path="mine")
    assert "share 1 groups" in capsys.readouterr().out, "equal but for their light"


def test_a_near_duplicate_of_a_test_picture_leaves_train(here, capsys):
    root = shots(here / "mine")
    (root / "test/good").mkdir()
    (root / "train/good/part3_1.png").rename(root / "test/good/part3_1.png")
    items = fetch("folder", path="mine")
    assert sides(items)["part3"] == {("test", "test/good/part3_1.png")}
    out = capsys.readouterr().out
    assert out.count("left out of train") == 2 and "is in one group with the test picture" in out


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("(part", "not a regular expression"),
        ("serial(\\d+)", "matches no name such as good/part0_0.png"),
        ("gone.csv:part", "can't be read"),
        ("parts.csv:serial", "needs the columns path and serial"),
        ("other.csv:part", "no path of it is a picture's"),
        ("latin.csv:part", "latin.csv: not UTF-8: line 2"),
    ],
)
def test_a_group_that_says_nothing_is_one_line(here, group, message):
    shots(here / "mine", each=1)
    (here / "parts.csv").write_text("path,part\ntrain/good/part0_0.png,1\n")
    (here / "other.csv").write_text("path,part\ntrain/good/x.png,1\n")
    (here / "latin.csv").write_bytes(b"path,part\n\xfc,1\n")
    with pytest.raises(UserError) as error:
        fetch("folder", path="mine", group=group)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_pictures_that_data_group_leaves_out_are_counted(here, capsys):
    shots(here / "mine")
    fetch("folder", path="mine", group=r"(part[0-3])_")
    out = capsys.readouterr().out
    assert "data.group says nothing of 15 pictures" in out and "groups: 12 pictures share 4 groups" in out
