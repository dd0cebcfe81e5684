"""The one decoder of picture files: bit depth, transparency, masks, names, damage and size."""

import json
import shutil
import struct
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
from edge.preprocess import ImageError, read_image, read_mask
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
