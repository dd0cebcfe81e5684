"""A picture of a source before the split, and the checks that every one must pass."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge.errors import UserError
from edge.preprocess import read_image
from stages.common.progress import track

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}

DARK = 16  # of 256: what 12 bits in a 16-bit file come to


@dataclass(frozen=True)
class Picture:
    """One image of a source."""

    file: Path
    name: str  # its place under images/, unique in its source
    defect: str  # "good" or the defect type
    mask: Path | None
    group: str  # near-duplicates share it
    origin: str  # train | test: given by the source; any: the split is ours to draw


def check(pictures: list[Picture]) -> None:
    """Decodes every image and mask once; UserError on the first that is broken or misfits, a line per empty mask."""
    for picture in track(pictures, "verify images"):
        image = read_whole(picture.file)
        if image.max() < DARK and _is_deep(picture.file):
            raise UserError(
                f"{picture.file}: a 16-bit picture of small values, of which 8 bits would keep almost nothing; scale "
                f"it to the full range or convert it to 8 bits"
            )
        if picture.mask is None:
            continue
        mask = read_whole(picture.mask)
        if mask.shape != image.shape:
            (mh, mw), (ih, iw) = mask.shape[:2], image.shape[:2]
            raise UserError(f"{picture.mask}: the mask is {mw}x{mh} px, its image {picture.file.name} {iw}x{ih} px")
        if not mask.any():
            print(f"warning: {picture.mask}: the mask marks no pixel; kept", flush=True)


def read_whole(path: Path):
    """The decoded picture; UserError when it is broken or ends early (some decoders fill a missing rest with grey)."""
    image = read_image(path)
    if not is_whole(path.read_bytes()):
        raise UserError(f"{path}: the picture is damaged or cut off; replace or remove it")
    return image


def _is_deep(path: Path) -> bool:
    """True when the picture has more than 8 bits per channel."""
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR).dtype != np.uint8


def is_whole(data: bytes) -> bool:
    """False when a JPEG or PNG is cut off or a PNG checksum is wrong; other formats are left to the decoder."""
    if data[:2] == b"\xff\xd8":
        return _jpeg_is_whole(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png_is_whole(data)
    return True


def _jpeg_is_whole(data: bytes) -> bool:
    """Walks the segments, so that the end marker of an embedded thumbnail doesn't count."""
    at = 2
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            return False
        marker = data[at + 1]
        if marker == 0xD9:
            return True
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD7:  # a data byte, TEM or a restart marker: no length
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _png_is_whole(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False
