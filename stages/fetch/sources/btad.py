"""One of the three products of BTAD (beanTech anomaly detection): 01, 02 or 03, with the split that comes with it.

P. Mishra, R. Verk, D. Fornasier, C. Piciarelli, G. L. Foresti, "VT-ADL: a vision transformer network for image anomaly
detection and localization", ISIE 2021. Licence: CC BY-NC-SA 4.0, not for commercial use.

    BTech_Dataset_transformed/01/train/ok/0000.bmp
                                 test/ok/0000.bmp  test/ko/0000.bmp  ground_truth/ko/0000.png

A mask has the name of its picture, with whatever ending (01 and 02: .png, 03: .bmp). The sha256 of the public archive
is the one that anomalib checks. A list for data.hashes, made in BTech_Dataset_transformed:

    find 01 -iname '*.bmp' -o -iname '*.png' | sort | xargs sha256sum
"""

from pathlib import Path, PurePosixPath

from edge.errors import UserError
from stages.fetch import archive, layout
from stages.fetch.picture import Picture
from stages.fetch.published import Published, find, verified

KNOWN = Published(
    name="BTAD",
    licence="CC BY-NC-SA 4.0: not for commercial use (avires.dimi.uniud.it/papers/btad)",
    content="folder 01/train/ok",
    hint="btad",
    url="https://avires.dimi.uniud.it/papers/btad/btad.zip",
    file="btad.zip",
    sha256="461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
    categories=("01", "02", "03"),
    marker="train/ok",
)
FOLDERS = (("train/ok", "good", "train"), ("test/ok", "good", "test"), ("test/ko", "ko", "test"))


def load(data, work: Path) -> list[Picture]:
    """The verified pictures of `data.category`; the defects are all of one type, ko."""

    def keep(parts: tuple[str, ...]) -> PurePosixPath | None:
        return archive.below(parts, (data.category,), ("train", "test", "ground_truth"))

    source = find(KNOWN, data, work, keep)
    root = source.root / data.category
    masks = layout.by_stem(root / "ground_truth" / "ko")
    pictures = []
    for folder, defect, origin in FOLDERS:
        for file in layout.pictures_in(root / folder):
            mask = None
            if defect != "good" and (mask := masks.pop(file.stem, None)) is None:
                raise UserError(f"{file}: no mask {root}/ground_truth/ko/{file.stem}.png; add it")
            group = file.relative_to(root).as_posix()
            pictures.append(Picture(file, f"{defect}/{origin}_{file.name}", defect, mask, group, origin))
    layout.say_unused(root / "ground_truth" / "ko", masks.values())
    files = [file for picture in pictures for file in picture.files]
    return verified(KNOWN, data, source, files, pictures, f"{data.category}/")
