"""A picture of a source before the split, and the checks that every one must pass."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from edge.errors import UserError
from edge.preprocess import read_image, read_mask
from stages.common.progress import track

SOUNDS_GOOD = {"ok", "okay", "normal", "nominal", "pass", "fine"}
SIGNATURES = (b"\xff\xd8", b"\x89PNG\r\n\x1a\n")  # of JPEG and PNG

Image.MAX_IMAGE_PIXELS = None  # OpenCV, which decodes every picture first, has a limit of its own


@dataclass(frozen=True)
class Picture:
    """One image of a source, or one frame of a clip."""

    file: Path
    name: str  # its path under images/, unique in its source
    defect: str  # "good" or the defect type
    mask: Path | None
    group: str  # pictures of one group never straddle a split: near-duplicates, the frames of one recording
    origin: str  # train | test: the split of the source; any: fetch draws the split
    unverified: bool = False  # downloaded, and compared with no known hash
    clip: str = ""  # the clip that it is a frame of, empty for a picture
    frame: int = 0  # its place in the clip
    part: str = ""  # which part it shows, where that makes no group; empty: the group

    @property
    def files(self) -> list[Path]:
        """The image, and the mask where there is one."""
        return [self.file] if self.mask is None else [self.file, self.mask]


def check_types(pictures: list[Picture]) -> None:
    """UserError for a defect type that is "good" but for case or spaces; a line for each that sounds good."""
    for defect, file in {picture.defect: picture.file for picture in reversed(pictures)}.items():
        name = defect.strip().casefold()
        if defect != "good" and name == "good":
            raise UserError(f"{file}: its type {defect!r} would count as a defect; rename it to good")
        if name in SOUNDS_GOOD:
            print(f"warning: {file}: its type {defect!r} counts as a defect; good pictures are called good", flush=True)


def check(pictures: list[Picture], depth: int | None) -> None:
    """Decodes every image (depth: `input.depth`) and mask once; UserError on the first that is broken or misfits, a
    line for each mask that marks no or every pixel."""
    for picture in track(pictures, "verify images"):
        image = read_image(picture.file, depth)
        verify_whole(picture.file)
        if picture.mask is None:
            continue
        mask = read_mask(picture.mask)
        verify_whole(picture.mask)
        if mask.shape != image.shape[:2]:
            (mh, mw), (ih, iw) = mask.shape, image.shape[:2]
            raise UserError(f"{picture.mask}: the mask is {mw}x{mh} px, its image {picture.file.name} {iw}x{ih} px")
        if mask.all() or not mask.any():
            which = "every pixel; is its background black?" if mask.all() else "no pixel; kept"
            print(f"warning: {picture.mask}: the mask marks {which}", flush=True)


def verify_whole(path: Path) -> None:
    """UserError when a picture that can be decoded is damaged or cut off.

    OpenCV refuses a cut file of every format but JPEG, whose missing rest it fills with grey. So Pillow reads JPEG and
    PNG again: `load` to the end of the pixels, `verify` the checksums of a PNG.
    """
    with open(path, "rb") as stream:
        if not stream.read(8).startswith(SIGNATURES):
            return
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as file:
            file.verify()
        with Image.open(path, formats=("JPEG", "PNG")) as file:  # a verified picture can't be loaded
            file.load()
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: a checksum, ValueError: a header
        raise UserError(f"{path}: the picture is damaged or cut off ({error}); replace or remove it") from None
