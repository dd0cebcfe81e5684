"""From a picture file to the array that a model takes; the same code trains, evaluates and deploys.

A sample is a picture, uint8 [H, W, 3] RGB, or a clip of grey frames, uint8 [H, W, T], the last one being now."""

from __future__ import annotations

import os
import stat
import struct
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.arrays import Image, Mask
from edge.errors import UserError, reason

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MAX_PIXELS = 1 << 28  # a choice: 0.8 GB as RGB, and about 10 s of decoding for each 2^26
DARK = 0.02  # a choice: the share of values that hot pixels may have; 16 bits have more above a quarter of the range
LOSSY = 4  # a choice: in a JPEG mask only what is above a quarter of its largest value isn't noise beside an edge


class ImageError(UserError):
    """A picture that can't be read; the message names the file."""


def find_pictures(folder: Path, deep: bool) -> tuple[list[Path], str]:
    """The pictures in a folder (deep: and below it) by suffix, sorted, and in words what else is there and left out.

    Links to files are followed. Hidden files, which other systems leave (`._a.png`), aren't pictures.
    """
    found: list[Path] = []
    suffixes: set[str] = set()
    left_out: Counter[str] = Counter()
    waiting = [os.fspath(folder)]  # os.walk calls itself, and so ends at a thousand folders in each other
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                inside = list(entries)
        except FileNotFoundError:
            continue
        except OSError:
            left_out["folders that can't be read"] += 1
            continue
        for entry in inside:
            path, suffix = Path(entry.path), Path(entry.name).suffix.lower()
            if entry.is_dir(follow_symlinks=False) or os.path.isdir(entry.path):
                if entry.name.startswith("."):
                    continue
                if deep and not entry.is_symlink():
                    waiting.append(entry.path)
                else:
                    left_out["links to folders" if deep else "deeper folders"] += 1
            elif entry.name.startswith("."):
                left_out["hidden pictures"] += suffix in SUFFIXES
            elif suffix not in SUFFIXES:
                left_out["files of other kinds"] += 1
                suffixes.add(suffix or "no suffix")
            elif os.path.isfile(entry.path):
                found.append(path)
            elif not os.path.lexists(entry.path):
                left_out["pictures that can't be reached"] += 1
            else:
                left_out["broken links" if entry.is_symlink() else "pipes or devices"] += 1
    kinds = {"files of other kinds": f" ({', '.join(sorted(suffixes))})"}
    return sorted(found), ", ".join(f"{n} {what}{kinds.get(what, '')}" for what, n in sorted(left_out.items()) if n)


def read_image(path: str | Path, depth: int | None = None, max_pixels: int = MAX_PIXELS) -> Image:
    """The picture as uint8 [H, W, 3] in RGB, grey pictures with three equal channels; ImageError when it is broken,
    has more than `max_pixels`, transparent pixels or values that don't say how bright they are.

    8 bits stay as they are. Of 16 bits `depth` (`input.depth`) says how many hold the values, the upper 8 of which are
    kept; without it the values must fill the full range.
    """
    pixels, alpha, _ = _decode(path, max_pixels)
    if alpha is not None and alpha.min() < np.iinfo(alpha.dtype).max:
        raise ImageError(f"{path}: has transparent pixels; flatten it onto the background that it shall have")
    if pixels.dtype != np.uint8:
        pixels = _to_8_bits(path, pixels, depth)
    rgb: Image = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return rgb


def read_mask(path: str | Path) -> Mask:
    """The defect's pixels as bool [H, W], of any bit depth: whatever is neither zero in all channels (of a palette: in
    its colour) nor fully transparent; in a lossy format, above a quarter of the largest value. ImageError when it is
    broken."""
    pixels, alpha, lossy = _decode(path)
    marked = pixels > (pixels.max() // LOSSY if lossy else 0)
    mask = marked.any(axis=2)
    return np.asarray(mask if alpha is None else mask & (alpha > 0))


def _decode(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """The only decoder of picture files: BGR [H, W, 3] as deep as the file has it, upright; the alpha channel [H, W]
    where there may be one; whether the format is lossy.

    The size is looked up in the header first, since decoding takes minutes and gigabytes where a small file says so.
    """
    data = _content(path)
    if not data.size:
        raise ImageError(f"{path}: not a readable picture, the file is empty; replace or remove it")
    kind, width, height, transparent = _header(data)
    if width * height > max_pixels:
        raise ImageError(f"{path}: {width} x {height} px: more than {max_pixels} pixels; shrink or tile it")
    if kind == "tiff" and (other := _other_values(data.data)):
        raise ImageError(f"{path}: holds {other} values; convert them to integers of 8 or 16 bits")
    try:
        whole = None  # with alpha, but not always upright
        if transparent or kind == "tiff":
            whole = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
            if whole is not None and whole.dtype not in (np.uint8, np.uint16):
                raise ImageError(f"{path}: holds {whole.dtype} values; convert them to integers of 8 or 16 bits")
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except (cv2.error, MemoryError) as error:
        raise ImageError(f"{path}: can't be decoded ({reason(error)}); replace or remove it") from None
    if image is None:
        raise ImageError(f"{path}: not a readable picture; replace or remove it")
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{path}: holds {image.dtype} values; convert them to integers of 8 or 16 bits")
    if image.shape[0] * image.shape[1] > max_pixels:  # of a format whose header isn't read here
        raise ImageError(f"{path}: {image.shape[1]} x {image.shape[0]} px: more than {max_pixels} pixels; shrink it")
    return image, _alpha(path, data, kind, transparent, whole, image), kind in ("jpeg", "lossy webp")


def _content(path: str | Path) -> np.ndarray:
    """The bytes of a regular file, read by Python, which takes any name that the file system does; ImageError for what
    else may be there: a pipe would wait for ever."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ImageError(f"{path}: not a regular file; give the picture itself")
            return np.fromfile(stream, np.uint8)
    except OSError as error:
        raise ImageError(f"{path}: can't be read: {error.strerror or error}") from None
    except ImageError:
        raise
    except (ValueError, MemoryError) as error:  # a name with a zero byte; more than fits
        raise ImageError(f"{str(path)!r}: can't be read: {error}") from None


def _alpha(path: Any, data: np.ndarray, kind: str, transparent: bool, whole: Any, image: np.ndarray) -> Any:
    """The alpha channel, None where there is none; ImageError where OpenCV drops it or `image` is turned."""
    if not transparent:
        return None
    if kind == "bmp":  # OpenCV leaves its fourth byte out, and most writers leave it 0
        (offset,) = struct.unpack("<I", data[10:14].tobytes())
        alpha = data[offset + 3 :: 4][: image.shape[0] * image.shape[1]].reshape(image.shape[:2])
        return alpha[::-1] if alpha.any() else None
    if whole is None or whole.ndim != 3 or whole.shape[2] != 4:
        raise ImageError(f"{path}: its transparency can't be read; save it without an alpha channel")
    if whole[..., 3].min() == np.iinfo(whole.dtype).max:
        return None
    if whole.shape[:2] != image.shape[:2] or (kind != "tiff" and not np.array_equal(whole[..., :3], image)):
        raise ImageError(f"{path}: both transparent and turned by its EXIF orientation; save it upright")
    return whole[..., 3]


def _header(content: np.ndarray) -> tuple[str, int, int, bool]:
    """Format, width and height, and whether there may be transparent pixels; ("", 0, 0, False) where the header is
    damaged or of a format in which neither matters here."""
    data = content[: 1 << 22].tobytes()
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            transparent = data[25:26] in (b"\4", b"\6") or b"tRNS" in data[: data.find(b"IDAT")]
            return ("png", *struct.unpack_from(">II", data, 16), transparent)
        if data.startswith(b"\xff\xd8"):
            return ("jpeg", *_jpeg_size(data), False)
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)  # a negative height: rows from the top
            return "bmp", abs(width), abs(height), data[28:30] == b"\x20\0"
        if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
            tags = content.data  # they may stand at the end of the file
            width, height = (_tiff_tag(tags, tag) or 0 for tag in (256, 257))
            return "tiff", width, height, _tiff_tag(tags, 338) is not None  # ExtraSamples
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):
        pass
    return "", 0, 0, False


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height from the start of frame (ITU-T T.81, B.2.2); 0, 0 where there is none."""
    at = 2
    while at + 9 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 if marker in (0x01, *range(0xD0, 0xD9)) else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return 0, 0


def _webp(data: bytes) -> tuple[str, int, int, bool]:
    """As `_header`, of a WebP file (RFC 9649)."""
    kind = "webp" if b"VP8L" in data else "lossy webp"
    if data[12:16] == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return kind, width, height, bool(data[20] & 0x10)
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return kind, (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    width, height = struct.unpack_from("<HH", data, 26)
    return kind, width & 0x3FFF, height & 0x3FFF, False


def _tiff_tag(data: memoryview, tag: int) -> int | None:
    """The first value of a tag of the first picture of a TIFF file (TIFF 6.0, section 2), None where it isn't there or
    can't be read."""
    order = "<" if bytes(data[:2]) == b"II" else ">"
    try:
        if b"+" in bytes(data[2:4]):  # BigTIFF
            (at,) = struct.unpack_from(f"{order}Q", data, 8)
            (count,) = struct.unpack_from(f"{order}Q", data, at)
            first, size, entry, offset = at + 8, 20, "HHQ", "Q"
        else:
            (at,) = struct.unpack_from(f"{order}I", data, 4)
            (count,) = struct.unpack_from(f"{order}H", data, at)
            first, size, entry, offset = at + 2, 12, "HHI", "I"
        for i in range(min(count, 4096)):
            name, kind, values = struct.unpack_from(order + entry, data, first + size * i)
            if name == tag:
                code = {3: "H", 4: "I", 16: "Q"}.get(kind, "B")
                value = first + size * i + struct.calcsize(order + entry)
                if values * struct.calcsize(order + code) > struct.calcsize(order + offset):
                    (value,) = struct.unpack_from(order + offset, data, value)
                return int(struct.unpack_from(order + code, data, value)[0])
    except struct.error:
        pass
    return None


def _other_values(data: memoryview) -> str:
    """What a TIFF file holds where that is no unsigned integers, of which a decoder says little or nothing."""
    kind, bits = _tiff_tag(data, 339), _tiff_tag(data, 258)  # SampleFormat, BitsPerSample
    name = {2: "int", 3: "float", 5: "complex int", 6: "complex"}.get(kind or 1, "")
    return f"{name}{bits or ''}" if name else ""


def _to_8_bits(path: str | Path, pixels: np.ndarray, depth: int | None) -> np.ndarray:
    """The upper 8 of `depth` bits; ImageError where more than hot pixels are above them or, without a depth, where
    hardly anything reaches a quarter of the full range (what 14 bits and fewer never do)."""
    if depth is None and np.count_nonzero(pixels >= 1 << 14) < DARK * pixels.size:
        bits = max(9, int(np.quantile(pixels, 1 - DARK)).bit_length())
        raise ImageError(
            f"{path}: a 16-bit picture whose values fill a fraction of the range; set input.depth to the bits that "
            f"they have ({bits} or more; 16 for a dark picture), scale it to the full range or convert it to 8 bits"
        )
    bits = depth or 16
    if bits < 16 and np.count_nonzero(pixels >> bits) >= DARK * pixels.size:
        raise ImageError(f"{path}: holds values of more than the {bits} bits of input.depth; correct it")
    found: Image = (np.minimum(pixels, (1 << bits) - 1) >> (bits - 8)).astype(np.uint8)
    return found


def to_grey(image: Image) -> Image:
    """The luma (ITU-R BT.601) of a picture [H, W, 3] as [H, W]; equal channels keep their value."""
    grey: Image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey


def to_sample(pictures: Sequence[Image], color: str) -> Image:
    """What a model of that color takes of pictures [H, W, 3] of one size, the last one being now: the last one itself
    (rgb), or all of them in grey, [H, W, T]."""
    return pictures[-1] if color == "rgb" else np.stack([to_grey(picture) for picture in pictures], axis=-1)


def resize(image: Image, height: int, width: int) -> Image:
    """Stretches [H, W] or [H, W, C] to height x width, bilinear; a side more than twice as long is first averaged down
    to twice as long, since bilinear alone would skip pixels beyond a factor of two.

    Channels other than RGB are resized one by one: OpenCV takes four at most, and a frame has to come out the same
    whether it is alone or in a clip.
    """
    if image.ndim == 3 and image.shape[2] != 3:
        return np.stack([resize(image[..., i], height, width) for i in range(image.shape[2])], axis=-1)
    limit = (min(image.shape[0], 2 * height), min(image.shape[1], 2 * width))
    if image.shape[:2] != limit:
        image = cv2.resize(image, limit[::-1], interpolation=cv2.INTER_AREA)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


class Ring:
    """The sample that a model takes of a running video: the last `frames` frames [H, W], `step` apart; as long as too
    few were seen, the first one stands in for those before it."""

    def __init__(self, frames: int, step: int):
        self._step, self._length = step, (frames - 1) * step + 1
        self._kept: deque[Image] = deque(maxlen=self._length)

    def push(self, frame: Image) -> None:
        self._kept.extend([frame] * (1 if self._kept else self._length))

    def clear(self) -> None:
        """Forgets all frames: the next one is the first."""
        self._kept.clear()

    def sample(self) -> Image:
        """uint8 [H, W, frames]"""
        return np.stack(list(self._kept)[:: self._step], axis=-1)
