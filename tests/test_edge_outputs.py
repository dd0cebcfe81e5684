"""What commands write never replaces what they read, or a file that is not theirs."""

import csv
import os

import cv2
import numpy as np
import pytest
import tiny_models
from videos import write

from edge.__main__ import main
from edge.app import outputs
from edge.preprocess import read_image

random = np.random.default_rng(17)


@pytest.fixture(scope="module")
def model():
    return str(tiny_models.build() / "int8")


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), random.integers(0, 255, (20, 20, 3), dtype=np.uint8))
    return path


def refused(capsys, command, message):
    """One line on stderr, exit 1."""
    assert main([str(word) for word in command]) == 1
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert out == "" and len(errors) == 1 and message in errors[0] and "Traceback" not in err


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "what, into, message",
    [
        ("x.png", ".", "x.png: is an input"),
        ("x.png", "deep/..", "x.png: is an input"),
        ("x.png", "link", "x.png: is an input"),
        ("hard/y.png", "hardlinks", "y.png: is an input"),
        ("deep", "deep", "lies in the folder of pictures"),
        ("deep", "deep/new/out", "lies in the folder of pictures"),
        ("deep", "link/deep", "lies in the folder of pictures"),
        ("deep", ".", "x.png: exists and is no overlay"),
        ("twins", "new", "a.jpg.png: would hold two outputs"),
        ("bad", "good", "000.png: exists and is no overlay"),
    ],
)
def test_overlays_replace_no_picture(model, here, capsys, what, into, message):
    for name in ("x.png", "deep/x.png", "hard/y.png", "twins/a.jpg", "twins/a.jpg.png", "good/000.png", "bad/000.png"):
        picture(here / name)
    (here / "link").symlink_to(here)
    (here / "hardlinks").mkdir()
    os.link(here / "hard" / "y.png", here / "hardlinks" / "y.png")
    before = contents(here)
    refused(capsys, ["predict", model, what, "--overlay", into], message)
    assert contents(here) == before


def test_overlays_may_be_written_again(model, here):
    picture(here / "in" / "x.png")
    for _ in range(2):
        picture(here / "in" / "x.jpg")
        assert main(["predict", model, "in", "--overlay", "out"]) == 0
    drawn = sorted((here / "out").iterdir())
    assert [path.name for path in drawn] == ["x.jpg.png", "x.png"] and all(map(outputs.is_overlay, drawn))
    assert all(read_image(path).shape[1] >= 256 for path in drawn) and not outputs.is_overlay(here / "in" / "x.png")


def test_a_video_does_not_replace_its_input(model, here, capsys):
    write(here / "a.avi", [9] * 5)
    os.link(here / "a.avi", here / "hard.avi")
    (here / "soft.avi").symlink_to("a.avi")
    before = contents(here)
    for name in ("a.avi", "./a.avi", "hard.avi", "soft.avi"):
        refused(capsys, ["video", model, "a.avi", "--output", name], "is an input")
    assert contents(here) == before


@pytest.mark.parametrize("name, message", [("index.mp4", "index.csv: is an input"), ("mine.mp4", "is no truth file")])
def test_a_sample_video_replaces_no_table(here, capsys, name, message):
    rows = [{"path": f"{i}.png", "label": i, "defect": ("good", "spot")[i], "mask": ""} for i in range(2)]
    for row in rows:
        picture(here / row["path"])
    with open("index.csv", "w", newline="") as stream:
        table = csv.DictWriter(stream, rows[0])
        table.writeheader()
        table.writerows(rows)
    (here / "mine.csv").write_text("my,own\n1,2\n")
    before = contents(here)
    refused(capsys, ["sample-video", name, "--data", ".", "--parts", "2"], message)
    assert contents(here) == before
    for _ in range(2):  # its own truth file it may replace
        assert main(["sample-video", "new.mp4", "--data", ".", "--parts", "2"]) == 0
