"""The one decoder of picture files: bit depth, transparency, masks, names, damage and size."""

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
from PIL import Image

from edge.__main__ import main
from edge.app import sample
from edge.errors import UserError
from edge.geometry import Geometry
from edge.preprocess import ImageError, find_pictures, read_image, read_mask
from stages.common.dataset import Item, load_samples
from stages.common.masks import load_mask

pytestmark = pytest.mark.usefixtures("here")

EIGHT = np.random.default_rng(3).integers(0, 256, (24, 20, 3), np.uint8)  # RGB


def write(name: str, values: np.ndarray) -> Path:
    """A file of RGB(A) or grey values of any type, encoded by OpenCV."""
    swapped = values if values.ndim == 2 else values[..., [2, 1, 0, *range(3, values.shape[2])]]
    assert cv2.imwrite(name, swapped)
    return Path(name)


def deep(bits: int) -> np.ndarray:
    """The picture EIGHT in so many bits, its lower ones at random."""
    low = np.random.default_rng(4).integers(0, 1 << (bits - 8), EIGHT.shape)
    return ((EIGHT.astype(np.uint16) << (bits - 8)) + low).astype(np.uint16)


# bit depth


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [9, 10, 12, 14])
def test_fewer_bits_in_16_are_refused_or_read_as_stated(bits, suffix):
    values = deep(bits)
    path = write(f"a.{suffix}", values)
    with pytest.raises(ImageError, match=rf"a\.{suffix}: a 16-bit picture .*; set input\.depth .* \({bits} or more;"):
        read_image(path)
    assert np.array_equal(read_image(path, bits), EIGHT)
    values[0, 0] = 65535
    path = write(f"hot.{suffix}", values)
    with pytest.raises(ImageError, match="a 16-bit picture"):
        read_image(path)
    found = read_image(path, bits)
    assert (found[0, 0] == 255).all() and np.array_equal(found[1:], EIGHT[1:]), "a hot pixel is white, not wrapped"


def test_16_bits_of_the_full_range_are_their_upper_8():
    path = write("a.png", deep(16))
    assert np.array_equal(read_image(path), EIGHT) and np.array_equal(read_image(path, 16), EIGHT)
    with pytest.raises(ImageError, match=r"a\.png: holds values of more than the 12 bits of input\.depth"):
        read_image(path, 12)
    dark = write("dark.png", deep(16) // 16)
    assert np.array_equal(read_image(dark, 16), EIGHT // 16), "a depth of 16 says that it is only dark"
    grey = write("grey.png", deep(16)[..., 0])
    assert np.array_equal(read_image(grey), np.repeat(EIGHT[..., :1], 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_8_bits_stay_as_they_are_whatever_the_depth(suffix):
    night = EIGHT // 32
    for values in (EIGHT, night):
        path = write(f"a.{suffix}", values)
        assert np.array_equal(read_image(path), values) and np.array_equal(read_image(path, 12), values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_values_say_what_they_are(dtype, channels):
    path = write("a.tif", EIGHT[..., 0].astype(dtype) if channels == 1 else EIGHT.astype(dtype))
    with pytest.raises(ImageError, match=rf"a\.tif: holds {np.dtype(dtype)} values; convert them to integers"):
        read_image(path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kind", "bits", "name"),
    [
        (3, 16, "float16"),
        (3, 32, "float32"),
        (3, 64, "float64"),
        (2, 8, "int8"),
        (2, 16, "int16"),
        (6, 64, "complex64"),
    ],
)
def test_a_tiff_that_holds_no_integers_says_so_by_its_header(order, channels, kind, bits, name, capfd):
    """Also what OpenCV can't decode and prints pages about."""
    Path("a.tif").write_bytes(tiff(order, channels, kind, bits))
    for read in (read_image, read_mask):
        with pytest.raises(ImageError, match=rf"a\.tif: holds {name} values; convert them to integers of 8 or 16 bits"):
            read("a.tif")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (3, 16)])
def test_a_tiff_whose_tags_stand_at_its_end_is_checked_alike(order, channels, bits):
    data = tiff(order, channels, 1, bits)
    Path("a.tif").write_bytes(data)
    assert read_image("a.tif").shape == (5, 6, 3)
    with pytest.raises(ImageError, match=r"6 x 5 px: more than 29 pixels"):
        read_image("a.tif", max_pixels=29)


def tiff(order: str, channels: int, kind: int, bits: int) -> bytes:
    """A picture of 6 x 5 bright pixels as TIFF 6.0 has it, its tags behind 5 MB of nothing; `kind` is SampleFormat."""
    pixels = b"\xff" * (30 * channels * bits // 8)
    start = 8 + len(pixels) + (5 << 20)
    fields = [(256, 6), (257, 5), (258, bits), (259, 1), (262, 2 if channels == 3 else 1), (273, 8), (277, channels)]
    fields += [(278, 5), (279, len(pixels)), (339, kind)]
    after, more, tags = start + 2 + 12 * len(fields) + 4, b"", b""
    for tag, value in fields:
        count = channels if tag in (258, 339) else 1
        if count == 3:  # three shorts don't fit into the entry
            tags += struct.pack(f"{order}HHII", tag, 3, 3, after + len(more))
            more += struct.pack(f"{order}3H", *[value] * 3)
        else:
            tags += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    return head + pixels + bytes(5 << 20) + struct.pack(f"{order}H", len(fields)) + tags + bytes(4) + more


def test_training_and_device_read_by_the_same_depth(tmp_path, capsys):
    """The sample that a model is trained on is the one that `predict` gives it."""
    write("a.png", deep(12))
    spec = type("Spec", (), {"geometry": Geometry(16, 16), "color": "rgb", "frames": 1, "step": 1, "depth": 12})
    item = Item("a.png", "test", 0, "good", "", "", "a")
    write("b.png", EIGHT)
    eight = load_samples(tmp_path, [Item("b.png", "test", 0, "good", "", "", "b")], spec)
    assert np.array_equal(load_samples(tmp_path, [item], spec), eight)
    spec.depth = None
    with pytest.raises(UserError, match="16-bit"):
        load_samples(tmp_path, [item], spec)

    folder = Path(shutil.copytree(tiny_models.build() / "onnx", "model"))
    assert main(["predict", str(folder), "a.png"]) == 1
    assert capsys.readouterr().err.startswith("error: a.png: a 16-bit picture")
    raw = json.loads((folder / "model.json").read_text())
    raw["input"]["depth"] = 12
    (folder / "model.json").write_text(json.dumps(raw))
    assert main(["predict", str(folder), "a.png"]) == 0 and main(["predict", str(folder), "b.png"]) == 0
    twelve, plain = (line.split()[1] for line in capsys.readouterr().out.splitlines())
    assert twelve == plain


def test_fetch_reads_by_the_stated_depth():
    root = dataset(Path("mine"))
    for path in (root / "train/good").iterdir():
        write(str(path), deep(12))
    with pytest.raises(UserError, match=r"train/good/000\.png: a 16-bit picture"):
        fetch("folder", path="mine")
    write(str(root / "train/good/001.png"), deep(12)[::-1])
    assert fetch("folder", path="mine", depth=12)


# transparency


def rgba(alpha: int) -> np.ndarray:
    values = np.dstack([EIGHT, np.full(EIGHT.shape[:2], 255, np.uint8)])
    values[3:9, 4:8, 3] = alpha
    return values


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "bmp"])
def test_transparent_pixels_are_refused_and_an_opaque_channel_is_not(suffix):
    lossless = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.fromarray(rgba(255)).save(f"opaque.{suffix}", **lossless)
    assert np.array_equal(read_image(f"opaque.{suffix}"), EIGHT)
    for alpha in (0, 128, 254):
        Image.fromarray(rgba(alpha)).save(f"a.{suffix}", **lossless)
        with pytest.raises(ImageError, match=rf"a\.{suffix}: has transparent pixels; flatten it"):
            read_image(f"a.{suffix}")


def test_every_kind_of_transparency_counts():
    grey = EIGHT[..., 0]
    Image.fromarray(np.dstack([grey, rgba(9)[..., 3]]), "LA").save("la.png")
    Image.fromarray(np.dstack([grey, rgba(9)[..., 3]]), "LA").save("la.tif")
    Image.fromarray(grey).save("key.png", transparency=int(grey[0, 0]))
    Image.fromarray(EIGHT).save("colour.png", transparency=tuple(int(v) for v in EIGHT[0, 0]))
    palette = Image.fromarray(grey % 3, "P")
    palette.putpalette([10, 0, 0, 200, 0, 0, 0, 0, 250])
    palette.save("palette.png", transparency=0)
    write("deep.png", rgba(7).astype(np.uint16) * 257)
    for name in ("la.png", "la.tif", "key.png", "colour.png", "palette.png", "deep.png"):
        with pytest.raises(ImageError, match=rf"{name}: .*transparen"):
            read_image(name)
    palette.save("plain.png")
    assert np.array_equal(read_image("plain.png"), np.array([[10, 0, 0], [200, 0, 0], [0, 0, 250]])[grey % 3])


# masks

MARKED = np.zeros((24, 20), bool)
MARKED[4:12, 6:15] = True
CLASSES = np.where(MARKED, np.arange(24)[:, None] % 3 + 1, 0).astype(np.uint8)  # indices 1, 2 and 3


def palette_mask() -> Image.Image:
    image = Image.fromarray(CLASSES, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 1, 0, 0, 0, 64])
    return image


def layer(under: int) -> Image.Image:
    """What was drawn on a transparent layer, the colour `under` hidden below."""
    drawn = np.where(MARKED[..., None], (200, 0, 0), under).astype(np.uint8)
    return Image.fromarray(np.dstack([drawn, MARKED * np.uint8(255)]))


MASKS = {  # name: how it is drawn
    "zero_one.png": lambda: Image.fromarray(MARKED.astype(np.uint8)),
    "classes.png": lambda: Image.fromarray(CLASSES),
    "far_classes.png": lambda: Image.fromarray(np.where(CLASSES == 2, 255, CLASSES).astype(np.uint8)),
    "one_bit.png": lambda: Image.fromarray(MARKED),
    "one_bit.tif": lambda: Image.fromarray(MARKED),
    "deep.png": lambda: Image.fromarray(CLASSES.astype(np.uint16)),
    "deep.tif": lambda: Image.fromarray(CLASSES.astype(np.uint16) * 300),
    "palette.png": palette_mask,
    "palette.bmp": palette_mask,
    "layer.png": lambda: layer(0),
    "white_below.png": lambda: layer(255),
    "layer.tif": lambda: layer(255),
    "opaque.png": lambda: Image.fromarray(np.dstack([np.repeat(CLASSES[..., None], 3, 2), np.full_like(CLASSES, 255)])),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_whatever_is_not_zero(name):
    MASKS[name]().save(name)
    assert np.array_equal(read_mask(name), MARKED)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_noise_beside_the_edges_of_a_lossy_mask_is_not_marked(quality):
    """A pixel at an edge may turn either way; none beyond does."""
    marked = np.zeros((64, 64), bool)
    marked[13:40, 19:51] = True
    inner, outer = (function(marked.astype(np.uint8), np.ones((3, 3))) > 0 for function in (cv2.erode, cv2.dilate))
    for suffix in ("jpg", "webp"):
        Image.fromarray(marked * np.uint8(255)).convert("RGB").save(f"a.{suffix}", quality=quality)
        found = read_mask(f"a.{suffix}")
        assert found[inner].all() and not found[~outer].any()
    cv2.imwrite("empty.jpg", np.zeros((16, 16), np.uint8))
    assert not read_mask("empty.jpg").any()


def test_an_antialiased_edge_belongs_to_the_defect():
    values = np.zeros((8, 8), np.uint8)
    values[2:6, 2:6], values[3:5, 3:5] = 40, 255
    write("a.png", values)
    assert read_mask("a.png").sum() == 16


def test_a_picture_with_16_bits_may_have_a_mask_of_classes(capsys):
    """From fetch to the mask that accuracy is judged on, and to the line of a sample video."""
    root = dataset(Path("mine"))
    for path in (root / "ground_truth/dent").iterdir():
        Image.fromarray(CLASSES[:20].repeat(2, axis=1)[:, :24].astype(np.uint16)).save(path)
    (item, *_) = (item for item in fetch("folder", path="mine") if item.defect == "dent")
    wanted = MARKED[:20].repeat(2, axis=1)[:, :24]
    assert np.array_equal(load_mask("data/test", item, 20, 24), wanted)
    masks = {kind: mask for _, mask, kind in sample._line(Path("data/test"), 24, np.random.default_rng(0))}
    assert masks.keys() == {"", "dent", "hole"} and np.array_equal(masks["dent"].astype(bool), wanted)

    everything = root / "ground_truth/hole/000_mask.png"
    Image.fromarray(np.full((20, 24), 7, np.uint8)).save(everything)
    fetch("folder", path="mine")
    assert f"warning: {everything}: the mask marks every pixel" in capsys.readouterr().out


# names, damage, size


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
