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
from stages.common.dataset import evenly
from stages.common.progress import track
from stages.fetch.picture import Picture, check, is_whole, read_whole

pytestmark = pytest.mark.usefixtures("here")


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


def test_a_deep_picture_of_small_values_is_refused_and_a_full_one_is_not(here, capsys):
    """8 of 16 bits are read: 12 bits of a camera would be 4."""
    values = np.random.default_rng(0).integers(0, 4096, (16, 16)).astype(np.uint16)
    cv2.imwrite("twelve.png", values)
    cv2.imwrite("sixteen.png", values * 16)
    cv2.imwrite("night.png", (values // 256).astype(np.uint8))
    cv2.imwrite("mask.png", np.eye(16, dtype=np.uint8))
    masks = {"sixteen.png": here / "mask.png", "night.png": None}
    check([Picture(here / name, name, "good", mask, name, "train") for name, mask in masks.items()])
    assert "warning" not in capsys.readouterr().out, "masks of 0 and 1 mark pixels"
    with pytest.raises(UserError, match=r"twelve\.png: a 16-bit picture of small values.*convert it to 8 bits$"):
        check([Picture(here / "twelve.png", "twelve.png", "good", None, "", "train")])


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
