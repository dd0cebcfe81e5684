"""What a written video holds, whatever happens to the disk, to the process or to the codec."""

import itertools
import resource
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tiny_models
from conftest import ROOT
from test_edge_outputs import contents, refused
from videos import values, write

from edge.__main__ import main
from edge.app.container import count_frames
from edge.app.writer import Writer
from edge.errors import UserError

SEGMENT = 20 / 25 / 60  # minutes: 20 frames


@pytest.fixture(scope="module")
def model():
    return str(tiny_models.build() / "int8")


# segments


def test_segments_go_on_after_a_restart(model, here):
    write(here / "in.avi", range(0, 200, 4))
    command = ["video", model, "in.avi", "--output", "out.mp4", "--segment", str(SEGMENT)]
    assert main(command) == 0
    first = contents(here)
    assert main(command) == 0
    assert {path: data for path, data in contents(here).items() if path in first} == first
    files = sorted(here.glob("out*.mp4"))
    assert [f.name for f in files] == [f"out-{i:04d}.mp4" for i in range(6)]
    assert [len(values(f)) for f in files] == [20, 20, 10] * 2


def test_segments_do_not_replace_their_input(model, here):
    write(here / "in.avi", range(0, 200, 4))
    assert main(["video", model, "in.avi", "--output", "out-0000.mp4"]) == 0
    before = (here / "out-0000.mp4").read_bytes()
    assert main(["video", model, "out-0000.mp4", "--output", "out.mp4", "--segment", "10"]) == 0
    assert (here / "out-0000.mp4").read_bytes() == before and len(values(here / "out-0001.mp4")) == 50


def test_segments_go_on_after_gaps_long_numbers_links_and_other_recorders(here):
    for name in ("out-0002.mp4", "out-12345.mp4", "out-9.avi", "out-x.mp4", "about-99999.mp4"):
        (here / name).write_text("mine")
    (here / "out-12346.MP4").symlink_to("nowhere")
    before = contents(here)
    with Writer(here / "out.mp4", 25, True, SEGMENT) as one, Writer(here / "out.mp4", 25, True, SEGMENT) as two:
        for picture in noise(40):
            one.put(picture)
            two.put(picture)
    new = sorted(set(contents(here)) - set(before))
    assert [path.name for path in new] == [f"out-{i}.mp4" for i in range(12347, 12351)]
    assert [len(values(path)) for path in new] == [20] * 4 and before.items() <= contents(here).items()


# what fails while it is written


def noise(count, size=(48, 64)):
    random = np.random.default_rng(5)
    return [random.integers(0, 255, (*size, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
@pytest.mark.parametrize("count", [1, 2, 60])
def test_frames_are_counted_as_a_player_counts_them(here, suffix, count):
    path = here / f"a{suffix}"
    with Writer(path, 25, True) as writer:
        for picture in noise(count):
            writer.put(picture)
    assert writer.written == count_frames(path) == len(values(path)) == count


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_frames_of_a_file_that_was_cut_off(here, suffix, share):
    path = here / f"a{suffix}"
    with Writer(path, 25, True) as writer:
        for picture in noise(60):
            writer.put(picture)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    played = len(values(path))
    assert played - 1 <= count_frames(path) <= played  # a player may show the half of a picture that is there


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
@pytest.mark.parametrize("segments", [True, False])
def test_a_file_that_can_not_grow_is_said_and_earlier_segments_stay(model, here, suffix, segments):
    """A limit on the size of a file stands for a full disk: the writes fail, and OpenCV says nothing."""
    write(here / "in.avi", range(40))
    with Writer(here / "noise.avi", 25, True) as writer:
        for picture in [*[np.zeros((96, 128, 3), np.uint8)] * 20, *noise(60, (96, 128))]:
            writer.put(picture)
    command = [sys.executable, "-m", "edge", "video", model, here / "noise.avi", "--output", here / f"out{suffix}"]
    command += ["--segment", str(SEGMENT)] if segments else []

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, 250_000))

    done = subprocess.run(command, cwd=ROOT, preexec_fn=limit, capture_output=True, text=True, timeout=120)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(errors) == 1 and "Traceback" not in done.stderr and done.stdout == ""
    files = sorted(here.glob(f"out*{suffix}"))
    last, played = files[-1], [len(values(path)) for path in files]
    wanted = 20 if segments else 80
    assert f"{last}: holds {count_frames(last)} of {wanted} frames; is the disk full?" in errors[0]
    assert played[-1] - 1 <= count_frames(last) <= played[-1] < wanted
    assert played[:-1] == ([20] if segments else [])


@pytest.mark.parametrize("segment", [0, SEGMENT])
def test_a_full_disk_ends_with_playable_files(monkeypatch, model, here, capsys, segment):
    write(here / "in.avi", range(0, 200, 4))
    left = itertools.chain([10**9] * 33, itertools.repeat(1000))
    disk = shutil.disk_usage(here)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=next(left)))
    command = ["video", model, "in.avi", "--output", "out.mp4", "--segment", str(segment)]
    refused(capsys, command, "the disk is full; 33 frames were written")
    assert [len(values(f)) for f in sorted(here.glob("out*.mp4"))] == ([20, 13] if segment else [33])


@pytest.mark.parametrize("error", [cv2.error("Unknown C++ exception"), MemoryError(), ValueError("two\nlines")])
@pytest.mark.parametrize("call", ["write", "release", "isOpened"])
def test_whatever_the_codec_raises_is_one_line(monkeypatch, model, here, capsys, error, call):
    class Broken:
        def __init__(self, *_):
            pass

        def isOpened(self):
            return self.fails("isOpened")

        def write(self, _):
            self.fails("write")

        def release(self):
            self.fails("release")

        def fails(self, name):
            if name == call:
                raise error
            return True

    write(here / "in.avi", [9] * 100)
    monkeypatch.setattr(cv2, "VideoWriter", Broken)
    refused(capsys, ["video", model, "in.avi", "--output", "out.mp4"], "out.mp4: can't be written: ")


def test_put_raises_after_a_failure_instead_of_waiting(here):
    with pytest.raises(UserError, match="can't be written"), Writer(here / "a.mp4", 25, True) as writer:
        for _ in range(100):
            writer.put(np.zeros((4, 4, 3), np.float64))  # the codec takes no floats


def test_an_output_that_is_a_folder_is_one_line(model, here, capsys):
    write(here / "in.avi", [9] * 5)
    (here / "out.mp4").mkdir()
    refused(capsys, ["video", model, "in.avi", "--output", "out.mp4"], "out.mp4: can't be written: Is a directory")


# frame rates


RATES = [195.998, 0.0003, 1 / 3, 0.0149, 7.4925, 14.985, 24000 / 1001, 25, 30000 / 1001, 59.94006, 65.5351, 99.9995]
RATES += [119.88, 240000 / 1001, 655.356, 999.999, 999.5, 12.3456789, *np.random.default_rng(3).uniform(0.02, 999, 40)]


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_every_frame_rate_is_written(here, fps, suffix):
    path = here / f"a{suffix}"
    with Writer(path, fps, True) as writer:
        for picture in noise(3):
            writer.put(picture)
    assert writer.written == len(values(path)) == 3
    found = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS)
    assert found == pytest.approx(max(fps, 0.01), rel=2e-3, abs=1e-3)


def test_a_video_of_an_odd_rate(model, here):
    write(here / "in.avi", [9] * 5, fps=195.998)
    assert cv2.VideoCapture("in.avi").get(cv2.CAP_PROP_FPS) == pytest.approx(195.998, abs=1e-3)
    assert main(["video", model, "in.avi", "--output", "out.mp4"]) == 0
    assert len(values(here / "out.mp4")) == 5
