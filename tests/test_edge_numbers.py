"""The numbers of the command line: what is no number or out of its limits is one line, before anything is done."""

import cv2
import numpy as np
import pytest
import tiny_models
from test_edge_outputs import contents, refused
from videos import values, write

from edge.__main__ import _parser, main
from edge.app.numbers import LIMITS

VIDEO = {"motion": 255, "rate": 1e6, "segment": 1e6, "seconds": 1e9, "region-level": 1, "region-area": 1}


@pytest.fixture
def model(here):
    write(here / "in.avi", [9, 200] * 5)
    cv2.imwrite("in.png", np.zeros((20, 20, 3), np.uint8))
    return str(tiny_models.build() / "int8")


@pytest.mark.parametrize("option", VIDEO)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-5", "-0.001", "1e308", "1e10"])
def test_wrong_numbers_of_a_video(model, here, capsys, option, value):
    before = contents(here)
    refused(capsys, ["video", model, "in.avi", "--output", "out.avi", f"--{option}={value}"], f"--{option} ")
    assert contents(here) == before


@pytest.mark.parametrize(
    "words, message",
    [
        (["video", "in.avi", "--seconds", "0"], "--seconds 0: must be above 0"),
        (["video", "in.avi", "--region-level", "5"], "--region-level 5: must be at most 1"),
        (["video", "in.avi", "--steady", "-1"], "--steady -1: must be at least 1"),
        (["video", "in.avi", "--steady", "9" * 30], "must be at most"),
        (["video", "in.avi", "--threads", "0"], "threads = 0: must be at least 1"),
        (["video", "in.avi", "--threads", "9" * 12], "must be at most"),
        (["video", "in.avi", "--smallest-face", "-30"], "--smallest-face -30: must be at least 4"),
        (["video", "9" * 12], "a camera's number is at most 9999"),
        (["video", "\u00b2"], "no such video file"),
        (["predict", "in.png", "--threads", "9" * 12], "must be at most"),
        (["predict", "in.png", "--smallest-face", "9" * 12], "must be at most"),
        (["bench", "--runs", "1"], "--runs 1: must be at least 2"),
        (["bench", "--runs", "9" * 12], "must be at most"),
        (["bench", "--threads", "9" * 12], "must be at most"),
    ],
)
def test_other_wrong_numbers(model, capsys, words, message):
    refused(capsys, [words[0], model, *words[1:]], message)


@pytest.mark.parametrize("option, value", [("--seed", "-1"), ("--seed", "9" * 30), ("--parts", "1"), ("--parts", "-5")])
def test_wrong_numbers_of_a_sample_video(here, capsys, option, value):
    refused(capsys, ["sample-video", "a.mp4", option, value], f"{option} {value}: must")


@pytest.mark.parametrize("option", VIDEO)
def test_the_largest_numbers_are_taken(model, here, option):
    assert main(["video", model, "in.avi", "--output", "out.avi", f"--{option}={VIDEO[option]:g}"]) == 0
    assert len(values(next(here.glob("out*.avi")))) == 10


def test_every_number_has_its_limits():
    """Reading the parser: an option that takes a number stands in the table (threads: in the detector)."""
    commands = next(action for action in _parser()._actions if action.choices).choices.values()
    found = {a.dest for command in commands for a in command._actions if a.type in (int, float)}
    assert found == LIMITS.keys() | {"threads"}
