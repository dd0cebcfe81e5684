"""A picture of a source before the split, and the checks that every one must pass."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from edge.errors import UserError
from edge.preprocess import read_image
from stages.common.progress import track

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
SIGNATURES = (b"\xff\xd8", b"\x89PNG\r\n\x1a\n")  # of JPEG and PNG
DARK = 16  # of 256 grey levels: what the 4096 values of a 12-bit camera become when 16 bits are read as 8

Image.MAX_IMAGE_PIXELS = None  # OpenCV, which decodes every picture first, has a limit of its own


@dataclass(frozen=True)
class Picture:
    """One image of a source."""

    file: Path
    name: str  # its path under images/, unique in its source
    defect: str  # "good" or the defect type
    mask: Path | None
    group: str  # pictures of one group never straddle a split: near-duplicates, the frames of one recording
    origin: str  # train | test: the split of the source; any: fetch draws the split

    @property
    def files(self) -> list[Path]:
        """The image, and the mask where there is one."""
        return [self.file] if self.mask is None else [self.file, self.mask]


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


def read_whole(path: Path) -> np.ndarray:
    """The picture as uint8 [H, W, 3]; UserError when it is damaged or cut off.

    OpenCV refuses a cut file of every format but JPEG, whose missing rest it fills with grey. So Pillow reads JPEG and
    PNG again: `load` to the end of the pixels, `verify` the checksums of a PNG.
    """
    image = read_image(path)
    with open(path, "rb") as stream:
        if not stream.read(8).startswith(SIGNATURES):
            return image
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as file:
            file.verify()
        with Image.open(path, formats=("JPEG", "PNG")) as file:  # a verified picture can't be loaded
            file.load()
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: a checksum, ValueError: a header
        raise UserError(f"{path}: the picture is damaged or cut off ({error}); replace or remove it") from None
    return image


def _is_deep(path: Path) -> bool:
    """True when the picture has more than 8 bits per channel."""
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    return image is not None and image.dtype != np.uint8
