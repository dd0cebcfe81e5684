"""The standard streams of a command: closed, full, a pipe that nobody reads; and what no module has asked about."""

import argparse
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tiny_models
from conftest import ROOT
from videos import values, write

from edge.__main__ import main
from edge.app import bench, pictures

pytestmark = pytest.mark.slow

COMMANDS = ["predict {model} in.png", "predict {model} many --csv", "info {model} --json", "video {model} in.avi --csv"]
CLOSED = "error: standard output is closed, so the results would be lost; > /dev/null discards them"
FULL = "error: standard output: No space left on device"


@pytest.fixture
def shell(here):
    """Runs `python -m edge` with redirections in a folder with a picture, many pictures and a video: its exit code,
    what it printed, and its errors."""
    cv2.imwrite("in.png", np.zeros((20, 20, 3), np.uint8))
    (here / "many").mkdir()
    for i in range(400):  # more rows than a buffer holds
        os.link("in.png", here / f"many/{'x' * 40}{i}.png")
    write(here / "in.avi", [9, 200] * 5)
    model = tiny_models.build() / "int8"

    def run(command, redirection, unbuffered):
        line = f"{sys.executable} -m edge {command.format(model=model)} {redirection}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(["bash", "-c", line], cwd=here, env=environment, capture_output=True, text=True)
        assert not any(word in done.stderr for word in ("Traceback", "Exception ignored", "lost sys.stderr"))
        return done.returncode, done.stdout, [line for line in done.stderr.splitlines() if line.startswith("error: ")]

    return run


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_standard_output_is_one_line(shell, command, unbuffered):
    assert shell(command, ">/dev/full", unbuffered) == (1, "", [FULL])


@pytest.mark.parametrize("command", [*COMMANDS, "bench {model} --runs 2", "predict none in.png"])
def test_a_closed_standard_output_is_one_line_before_anything_is_done(shell, command):
    assert shell(command, ">&-", "") == (1, "", [CLOSED])
    assert shell(command, ">&- 2>&-", "") == (1, "", [])


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_goes_away_is_no_error_to_be_told(shell, command, unbuffered):
    _, printed, errors = shell(command, "| head -1; echo ${PIPESTATUS[0]}", unbuffered)
    first, status = printed.splitlines()
    assert first and status in "01" and not errors  # 0: all was written before head had gone
    assert shell(command, "| true; echo ${PIPESTATUS[0]}", unbuffered)[1:] in (("1\n", []), ("0\n", []))


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&-", "2>&- <&-"])
def test_rows_come_where_another_stream_is_closed_or_full(shell, redirection):
    code, printed, _ = shell("predict {model} in.png --csv", redirection, "")
    assert code == 0 and printed.startswith("path,score,verdict\nin.png,")
    assert shell("predict {model} none.png --csv", redirection, "")[:2] == (1, "path,score,verdict\n")


def test_a_video_does_not_become_a_closed_stream(shell, here):
    """Without care the file would be opened as the number 1 or 2, and get what libraries print."""
    assert shell("video {model} in.avi --output out.mp4 --csv", "2>&- <&-", "")[0] == 0
    assert len(values(here / "out.mp4")) == 10


def test_help_and_wrong_usage(shell):
    assert (
        shell("--help", ">/dev/full", "")[0] == 1 and shell("predict --nonsense", ">/dev/full 2>/dev/full", "")[0] == 2
    )


def test_wrong_usage_is_that_where_argparse_fails_to_say_it(monkeypatch):
    """As that of Python 3.11.2 does where standard error is full."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(argparse.ArgumentParser, "error", full)
    with pytest.raises(SystemExit) as end:
        main(["predict", "--nonsense"])
    assert end.value.code == 2


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "/x/y"), "error: /x/y: Permission denied"),
        (OSError(28, "No space left on device"), FULL),
        (MemoryError(), "error: not enough memory; use smaller pictures or fewer threads"),
        (cv2.error("OpenCV(5) x.cpp:9: error: (-215) two\nlines"), "error: OpenCV: "),
    ],
)
def test_what_no_module_expects_is_one_line(here, monkeypatch, capsys, error, line):
    def broken(*_):
        raise error

    monkeypatch.setattr(bench, "measure", broken)
    monkeypatch.setattr(pictures.overlay, "draw", broken)
    model = str(tiny_models.build() / "int8")
    cv2.imwrite("in.png", np.zeros((20, 20, 3), np.uint8))
    for command in (["bench", model], ["predict", model, "in.png", "--overlay", "out"]):
        assert main(command) == 1
        out, err = capsys.readouterr()
        errors = [row for row in err.splitlines() if row.startswith("error: ")]
        assert out == "" and len(errors) == 1 and errors[0].startswith(line)
