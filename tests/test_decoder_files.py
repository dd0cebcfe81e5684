"""Picture files by what is around them: any name, damage, limits, and a run that goes on."""

import json
import os
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_models
from fetching import dataset, fetch
from test_decoder import EIGHT, write

from edge.__main__ import main
from edge.errors import UserError
from edge.preprocess import ImageError, find_pictures, read_image, read_mask

pytestmark = pytest.mark.usefixtures("here")


NAMES = ["pr\udcfcf.png", "a b.png", "ü.png", "\u202ea.png"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_the_file_system_is_read(name):
    """Also one that isn't UTF-8, which OpenCV's own reader can't take."""
    Path(name).write_bytes(write("plain.png", EIGHT).read_bytes())
    assert np.array_equal(read_image(name), EIGHT) and np.array_equal(read_image(Path(name)), EIGHT)
    assert read_mask(name).shape == EIGHT.shape[:2]


def test_fetch_refuses_a_name_that_an_index_cannot_hold():
    root = dataset(Path("mine"))
    (root / "train/good/000.png").rename(root / "train/good/pr\udcfcf.png")
    with pytest.raises(UserError, match=r"'pr\\udcfcf\.png' has unprintable characters in its name; rename it"):
        fetch("folder", path="mine")


def header_only(kind: str, width: int, height: int) -> bytes:
    """The start of a picture file of that size."""
    if kind == "png":
        chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    if kind == "bmp":
        return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, -height, 1, 24, 0, 0, 0, 0, 0, 0)
    if kind == "tif":
        entries = struct.pack("<HHII", 256, 4, 1, width) + struct.pack("<HHII", 257, 4, 1, height)
        return b"II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    if kind == "webp":
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return b"RIFF" + bytes(4) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + sides
    if kind == "jpg":
        comment = b"\xff\xfe" + struct.pack(">H", 6) + b"\xff\xc0ab"
        return b"\xff\xd8" + comment + b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"P5 %d %d 255\n" % (width, height)


@pytest.mark.parametrize("kind", ["png", "bmp", "tif", "webp", "jpg"])
def test_the_limit_on_pixels_is_known_before_decoding(kind, monkeypatch):
    Path(f"a.{kind}").write_bytes(header_only(kind, 16384, 16385))
    with pytest.raises(ImageError, match=rf"a\.{kind}: not a readable|can't be decoded"):
        read_image(f"a.{kind}", max_pixels=1 << 30)
    monkeypatch.setattr(cv2, "imdecode", None)
    for read in (read_image, read_mask):
        with pytest.raises(ImageError, match=rf"a\.{kind}: 16384 x 16385 px: more than {1 << 28} pixels"):
            read(f"a.{kind}")


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp", "bmp", "ppm"])
def test_the_limit_is_on_width_times_height(kind):
    write(f"a.{kind}", EIGHT)
    assert read_image(f"a.{kind}", max_pixels=480).shape == EIGHT.shape
    with pytest.raises(ImageError, match="20 x 24 px: more than 479 pixels"):
        read_image(f"a.{kind}", max_pixels=479)


def test_what_opencv_refuses_by_an_exception_is_one_line():
    Path("a.pgm").write_bytes(header_only("pgm", 40000, 40000))
    with pytest.raises(ImageError, match=r"^a\.pgm: (can't be decoded|not a readable)[^\n]*$"):
        read_image("a.pgm")


def test_every_start_of_a_file_is_one_line():
    for suffix in ("png", "jpg", "tif", "webp", "bmp"):
        content = write(f"whole.{suffix}", EIGHT).read_bytes()
        for end in [*range(64), len(content) // 2]:
            Path("cut").write_bytes(content[:end])
            try:
                read_image("cut")
            except ImageError as error:
                assert "\n" not in str(error)


def test_pipes_folders_and_devices_are_no_pictures():
    os.mkfifo("pipe.png")
    for path in ("pipe.png", "/dev/null", "/dev/zero"):
        with pytest.raises(ImageError, match=f"{path}: not a regular file"):
            read_image(path)
    for path in (".", "gone.png", "x" * 5000, "a\0b"):
        with pytest.raises(ImageError, match=r"can't be read: [^\n]+$"):
            read_image(path)


def test_predict_goes_on_after_a_picture_that_is_too_large(capsys):
    folder = Path("pictures")
    folder.mkdir()
    for name in ("a.png", "c.png"):
        write(str(folder / name), EIGHT)
    (folder / "b.png").write_bytes(header_only("png", 40000, 40000))
    model = str(tiny_models.build() / "onnx")
    assert main(["predict", model, "pictures", "--json"]) == 1
    shown = capsys.readouterr()
    assert [row["path"] for row in json.loads(shown.out)] == ["pictures/a.png", "pictures/c.png"]
    assert shown.err.count("\n") == 1 and "pictures/b.png: 40000 x 40000 px: more than" in shown.err
    assert main(["predict", model, str(folder / "a.png"), "--max-pixels", "479"]) == 1
    assert "more than 479 pixels" in capsys.readouterr().err
    root = dataset(Path("mine"))
    shutil.copy(folder / "b.png", root / "train/good/000.png")
    with pytest.raises(UserError, match=r"000\.png: 40000 x 40000 px: more than"):
        fetch("folder", path="mine")


# folders


def test_predict_takes_the_pictures_of_fetch_and_says_what_it_leaves_out(capsys):
    folder = Path("pictures")
    (folder / "below").mkdir(parents=True)
    for name in ("a.png", "b.JPG", "below/c.tiff", "link.png"):
        write(str(folder / name).replace("link", "../link"), EIGHT)
    (folder / "link.png").symlink_to("../link.png")
    (folder / "._a.png").write_bytes(b"resource fork")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "notes.txt").write_text("words")
    Path("elsewhere").mkdir()
    (folder / "linked").symlink_to("../elsewhere")
    (folder / ".hidden").mkdir()
    write(str(folder / ".hidden/d.png"), EIGHT)
    os.mkfifo(folder / "pipe.png")
    model = str(tiny_models.build() / "onnx")
    assert main(["predict", model, "pictures", "--json"]) == 0
    shown = capsys.readouterr()
    assert [row["path"] for row in json.loads(shown.out)] == [
        f"pictures/{name}" for name in ("a.png", "b.JPG", "below/c.tiff", "link.png")
    ]
    assert shown.err.startswith("left out of pictures: ") and shown.err.count("\n") == 1
    assert shown.err.strip().removeprefix("left out of pictures: ").split(", ") == [
        "1 broken links",
        "1 files of other kinds (.txt)",
        "1 hidden pictures",
        "1 links to folders",
        "1 pipes or devices",
    ]
    assert find_pictures(folder, deep=False)[0] == [folder / name for name in ("a.png", "b.JPG", "link.png")]
    assert main(["predict", model, "elsewhere"]) == 1
    assert (
        capsys.readouterr().err == "error: elsewhere: holds no picture (.bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp)\n"
    )
