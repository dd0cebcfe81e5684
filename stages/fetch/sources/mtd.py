"""Magnetic tile defects: 952 good and 392 defective pictures of five types, with pixel masks.

Y. Huang, C. Qiu, K. Yuan, "Surface defect saliency of magnetic tile", The Visual Computer 36, 2020.

A tile was photographed under several exposures, one after the other: in `expE_num_N`, E is the exposure and N counts
the frames of the recording. Pictures of one tile must not straddle a split, so they are one group, found in two ways:

- Neighbours at most FRAMES frames apart. Of the 1343 distances between neighbours 1120 are below 100 frames, 201 from
  200 on and 22 in between. The highest normalised cross-correlation over all shifts (64 x 64 px, Gaussian of 4 px
  subtracted) has a median of .74 between pictures 50 to 100 frames apart, .59 at 100 to 150, .33 at 150 to 200 and .27,
  as any two pictures have, beyond.
- Tiles that came back later: the pairs in SAME_TILE, whose correlation was above .85. With the contrast made equal
  locally (Gaussian of 6 px) no two pictures of different groups exceed that now, while pictures of one tile do.
"""

import re
from itertools import pairwise
from pathlib import Path, PurePosixPath

from edge.errors import UserError
from stages.fetch import archive, download, hashes
from stages.fetch.picture import Picture
from stages.fetch.split import components

URL = "https://codeload.github.com/abin24/Magnetic-tile-defect-datasets./zip/refs/heads/master"
FILE = "Magnetic-tile-defect-datasets.-master.zip"
CLASSES = ("Blowhole", "Break", "Crack", "Fray", "Free", "Uneven")
FRAMES = 100  # see above
SAME_TILE = (  # N of two pictures of one tile
    (5924, 13549), (8676, 10642), (9196, 10448), (10448, 10790), (24843, 25007), (37098, 37556), (37273, 37556),
    (53049, 65067), (61380, 61501), (75157, 75343), (85642, 86828), (85642, 88170), (85665, 86064), (85897, 86892),
    (124236, 124787), (136351, 136716), (241939, 242089), (249619, 249762), (257678, 257962), (293757, 293912),
    (306622, 309443), (348661, 348888), (355669, 358102),
)  # fmt: skip


def load(data, work: Path) -> list[Picture]:
    """The verified pictures of the folder or archive at `data.path`, or of the public archive.

    `data.group_near_duplicates`: false makes each picture its own group, as published figures have it; which tile it
    shows is still said.
    """
    source = _source(data)
    if source.is_file():
        archive.extract(source, work, _place)
        root = work
        if not _is_root(root):
            raise UserError(f"{source}: holds no folder MT_Free/Imgs; is it the archive of the magnetic tile defects?")
    else:
        root = source
    images = sorted(root.glob("MT_*/Imgs/*.jpg"))
    masks = sorted(m for m in root.glob("MT_*/Imgs/*.png") if _class(m) != "good")
    expected = hashes.read(Path(data.hashes) if data.hashes else Path(__file__).with_suffix(".sha256"))
    hashes.verify(root, images + masks, expected)
    stems = [image.stem for image in images]
    tiles = group_names(stems)
    pictures = []
    for image in images:
        defect = _class(image)
        mask = None if defect == "good" else image.with_suffix(".png")
        if mask and not mask.exists():
            raise UserError(f"{mask}: the mask of {image.name} is missing; fetch the dataset again")
        origin = "any" if defect == "good" else "test"
        tile = tiles[image.stem]
        group, part = (tile, "") if data.group_near_duplicates else (image.stem, tile)
        pictures.append(Picture(image, f"{defect}/{image.name}", defect, mask, group, origin, part=part))
    return pictures


def group_names(stems: list[str]) -> dict[str, str]:
    """The group of each picture by the stem of its file name: the tile, named by its first frame."""
    frame = {}
    for stem in stems:
        match = re.fullmatch(r"exp\d+_num_(\d+)", stem)
        frame[stem] = int(match[1]) if match else None
    numbers = sorted({n for n in frame.values() if n is not None})
    same = [(a, b) for a, b in pairwise(numbers) if b - a <= FRAMES]
    same += [(a, b) for a, b in SAME_TILE if a in numbers and b in numbers]
    first = components(numbers, same)
    return {stem: stem if n is None else f"tile_{first[n]:06d}" for stem, n in frame.items()}


def _source(data) -> Path:
    """The archive, downloaded if need be, or the unpacked folder that holds MT_Free."""
    if data.path is None:
        return download.fetch(data.url, listed=True) if data.url else download.fetch(URL, FILE, listed=True)
    path = archive.existing(data.path)
    if path.is_file():
        return path
    for folder in (path, *sorted(p for p in path.iterdir() if p.is_dir())):
        if _is_root(folder):
            return folder
    return archive.only_one(path, "agnetic-tile", "MT_Free/Imgs")


def _is_root(folder: Path) -> bool:
    return (folder / "MT_Free" / "Imgs").is_dir()


def _class(file: Path) -> str:
    """The defect type of MT_<class>/Imgs/<file>, or "good"."""
    name = file.parent.parent.name.removeprefix("MT_").lower()
    return "good" if name == "free" else name


def _place(parts: tuple[str, ...]) -> PurePosixPath | None:
    """Where a member of the archive goes: the part of its path from MT_<class> on; None for other members."""
    for i, part in enumerate(parts[:-2]):
        if part.removeprefix("MT_") in CLASSES and part.startswith("MT_"):
            return PurePosixPath(*parts[i:])
    return None
