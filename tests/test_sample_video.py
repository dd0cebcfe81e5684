"""What a sample video takes from a dataset: one decoder, one rule for masks; and tables that are none."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_models
from test_edge_outputs import refused
from videos import write as video

from edge.__main__ import main
from edge.app import sample, truth
from edge.errors import UserError
from edge.preprocess import read_image

SHAPE = (48, 64)
random = np.random.default_rng(41)


def dataset(folder, mask, image=None, shape=SHAPE):
    """A good picture of `shape` and one with a defect and this mask, whatever its size and type."""
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "good.png"), random.integers(90, 110, (*shape, 3), dtype=np.uint8))
    bad = random.integers(90, 110, (*mask.shape[:2], 3), dtype=np.uint8) if image is None else image
    cv2.imwrite(str(folder / "bad.png"), bad)
    cv2.imwrite(str(folder / "mask.png"), mask)
    (folder / "index.csv").write_text("path,label,defect,mask\ngood.png,0,good,\nbad.png,1,spot,mask.png\n")
    return folder


def mask_of(folder, depth=None):
    """The defect's mask on the line, which begins with the good picture: that one sets the size."""
    line = sample._line(folder, 6, np.random.default_rng(0), depth)
    return next(mask for _, mask, kind in line if kind)


@pytest.mark.parametrize("value", [1, 2, 127, 128, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_not_zero_is_the_defect_whatever_its_value(here, value, dtype):
    mask = np.zeros(SHAPE, dtype)
    mask[10:20, 30:40] = value
    assert np.array_equal(mask_of(dataset(here, mask)), mask > 0)


@pytest.mark.parametrize("times", [2, 3, 5, 16])
def test_a_scratch_survives_when_its_picture_is_made_smaller(here, times):
    """A line of one pixel: of each pixel of the smaller mask that it runs through, at least; none is far from it."""
    mask = np.zeros((SHAPE[0] * times, SHAPE[1] * times), np.uint8)
    row = 7 * times + times // 2
    mask[row, 5 * times : 40 * times] = 1
    found = mask_of(dataset(here, mask))
    assert found[7, 5:40].all()
    far = np.ones(SHAPE, bool)
    far[6:9, 4:41] = False
    assert not found[far].any()


def test_a_mask_that_marks_nothing_is_as_none_the_whole_part(here):
    assert mask_of(dataset(here, np.zeros(SHAPE, np.uint8))).all()


def test_deep_pictures_are_read_by_their_depth(here, capsys):
    folder = dataset(here / "data", np.full(SHAPE, 255, np.uint8))
    twelve = random.integers(0, 4096, (*SHAPE, 3), dtype=np.uint16)
    for name in ("good", "bad"):
        cv2.imwrite(str(folder / f"{name}.png"), twelve)
    command = ["sample-video", "a.mp4", "--data", "data", "--parts", "2"]
    refused(capsys, command, "set input.depth to the bits that they have (12 or more")
    refused(capsys, [*command, "--depth", "8"], "--depth 8: must be at least 9")
    assert main([*command, "--depth", "12"]) == 0
    for image, _, _ in sample._line(folder, 2, np.random.default_rng(0), 12):
        assert np.array_equal(image, read_image(folder / "good.png", 12))
        assert np.array_equal(image, (twelve >> 4).astype(np.uint8)[..., ::-1])


HEADER = "path,label,defect,mask\n"
WANTED = "index.csv: needs the columns path, label, defect and mask, as fetch writes"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", WANTED),
        ("\0", WANTED),
        (HEADER + "\udcfc", WANTED),
        (HEADER + "good.png\n", WANTED),
        (HEADER + ",0,good,\nbad.png,1,spot,\n", WANTED),
        (HEADER + "good.png,0,good,\nbad.png,2,spot,\n", WANTED),
        (HEADER + "good.png," + "9" * 5000 + ",good,\n", WANTED),
        (HEADER + '"' + "x" * 200_000 + '",0,good,\n', WANTED),
        (HEADER + "good.png,0,good,\nbad.png,1,,\n", "a picture with a defect has no type in the column defect"),
        (HEADER + "good.png,0,good,\n", "needs good pictures and pictures with a defect"),
        (HEADER + "good.png,0,good,\nbad.png,1,spot,none.png\n", "none.png: can't be read: No such file"),
    ],
)
def test_an_index_that_is_none(here, capsys, content, message):
    dataset(here, np.ones(SHAPE, np.uint8))
    (here / "index.csv").write_text(content, errors="surrogateescape")
    refused(capsys, ["sample-video", "a.mp4", "--data", ".", "--parts", "4"], message)


NO_TRUTH = ["", "frame\n1\n", "frame,label\n1\n", "frame,label\n1,7\n", "frame,label\nx,1\n", "frame,label\n-1,1\n"]
NO_TRUTH += ["frame,label\n\u00b2,1\n", "frame,label\n\udcfc,1\n", "frame,label\n1,\0\n"]
NO_TRUTH += [f"frame,label\n{'9' * 5000},1\n", f'frame,label\n"{"x" * 200_000}",0\n']


@pytest.mark.parametrize("content", NO_TRUTH)
def test_a_truth_file_that_is_none(here, content):
    Path("a.csv").write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match=r"a\.csv: not a truth file; it needs the columns frame and label"):
        truth.read("a.csv")
    for name, message in (("none.csv", "No such file"), (".", "Is a directory"), ("/dev/null", "not a regular file")):
        with pytest.raises(UserError, match=message):
            truth.read(name)


def test_a_truth_file_is_read_as_it_is_written(here):
    rows = [dict.fromkeys(truth.COLUMNS, 0) | {"frame": i, "label": i % 2} for i in range(9)]
    truth.write(Path("a.csv"), rows)
    assert truth.read("a.csv") == {i: i % 2 for i in range(9)}
    with open("a.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 9
    video(here / "in.avi", [9, 200] * 5)
    assert main(["video", str(tiny_models.build() / "int8"), "in.avi", "--truth", "a.csv"]) == 0


@pytest.mark.parametrize(("name", "message"), [("", "must end in .mp4 or .avi"), ("a.gif", "must end in .mp4")])
def test_a_name_that_no_video_has(here, capsys, name, message):
    dataset(here, np.ones(SHAPE, np.uint8))
    refused(capsys, ["sample-video", name, "--data", "."], message)
