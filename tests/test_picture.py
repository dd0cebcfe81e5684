"""Pictures that end early are noticed in every format."""

import itertools
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from fetching import picture

from edge.errors import UserError
from edge.preprocess import read_image
from stages.common.dataset import evenly
from stages.common.progress import track
from stages.fetch.picture import verify_whole

pytestmark = pytest.mark.usefixtures("here")


# pictures that end early


def refused(file: Path, content: bytes) -> bool:
    """True when the file with this content is refused in one line that names it."""
    file.write_bytes(content)
    try:
        read_image(file)
        verify_whole(file)
    except UserError as error:
        assert str(error).startswith(f"{file}: ") and "\n" not in str(error)
        return True
    return False


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("suffix", "flags"),
    [
        ("jpg", []),
        ("jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        ("jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
        ("png", []),
        ("bmp", []),
        ("webp", []),
        ("tif", []),
    ],
)
def test_every_cut_is_noticed(here, suffix, flags, plain):
    """Pixels of noise, or a lower half of one grey, which is what a decoder may fill in."""
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    image[32:] = 128 if plain else image[32:]
    file = here / f"a.{suffix}"
    data = cv2.imencode(file.suffix, image, flags)[1].tobytes()
    assert not refused(file, data)
    assert not refused(file, data + b"\0" * 20), "what follows the picture doesn't count"
    for end in (*range(0, len(data), 97), *range(len(data) - 24, len(data))):
        assert refused(file, data[:end]), end


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture(here):
    thumbnail = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes()
    data = picture(here / "a.jpg", 0, (64, 64)).read_bytes()
    with_thumbnail = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    assert not refused(here / "a.jpg", with_thumbnail)
    assert refused(here / "a.jpg", with_thumbnail[:-500]) and refused(here / "a.jpg", with_thumbnail[:-2])


def test_every_flipped_bit_of_a_png_is_noticed(here):
    """Up to the checksum of the last chunk, which is empty."""
    data = picture(here / "a.png", 0).read_bytes()
    assert zlib.crc32(data[12:29]) == int.from_bytes(data[29:33], "big")
    for at in range(8, len(data) - 4, 5):
        assert refused(here / "a.png", data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]), at


@pytest.mark.parametrize(("total", "count"), [(551, 64), (64, 64), (65, 64), (3, 64), (1, 1), (1000, 1)])
def test_evenly_drawn_items(total, count):
    found = evenly(list(range(total)), count)
    assert len(found) == min(total, count) and found[0] == 0
    steps = {b - a for a, b in itertools.pairwise([*found, total])}
    assert max(steps) - min(steps) <= 1 and min(steps) > 0


def test_progress_in_a_log_is_a_few_lines(capsys, monkeypatch):
    clock = itertools.count(0, 4)
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    assert list(track(range(9), "work")) == list(range(9))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "work: 9/9 done" and 2 <= len(lines) <= 4
    assert list(track(iter("ab"), "work")) == ["a", "b"]
    assert capsys.readouterr().out == "work: 2 done\n"
