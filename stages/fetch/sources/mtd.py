"""Magnetic tile defects (Huang, Qiu, Yuan: "Saliency of magnetic tile surface defects"), 952 good and 392 defective.

A tile was photographed under several exposures, one after the other: in `expE_num_N`, E is the exposure and N counts
the frames of the recording. Pictures whose N follow each other within 100 frames are one group. Comparing every pair
of pictures (normalised cross-correlation of their high frequencies at 64x64 px, best shift) confirms the rule and shows
tiles that came back later; the pairs above 0.85 are listed in SAME_TILE, and their groups are one. A good picture that
shares a group with a defect goes to test, where all defects are.
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
FRAMES = 100
SAME_TILE = (
    (5924, 13549), (8676, 10642), (9196, 10448), (10448, 10790), (24843, 25007), (37098, 37556), (37273, 37556),
    (53049, 65067), (61380, 61501), (75157, 75343), (85642, 86828), (85642, 88170), (85665, 86064), (85897, 86892),
    (124236, 124787), (136351, 136716), (241939, 242089), (249619, 249762), (257678, 257962), (293757, 293912),
    (306622, 309443), (348661, 348888), (355669, 358102),
)  # fmt: skip


def load(data, work: Path) -> list[Picture]:
    """The verified pictures of the mirror at `data.path`, or of the public archive."""
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
    groups = group_names(stems) if data.group_near_duplicates else {stem: stem for stem in stems}
    pictures = []
    for image in images:
        defect = _class(image)
        mask = None if defect == "good" else image.with_suffix(".png")
        if mask and not mask.exists():
            raise UserError(f"{mask}: the mask of {image.name} is missing; fetch the dataset again")
        origin = "any" if defect == "good" else "test"
        pictures.append(Picture(image, f"{defect}/{image.name}", defect, mask, groups[image.stem], origin))
    return pictures


def group_names(stems: list[str]) -> dict[str, str]:
    """The group of each picture by its file name, see the head of this file."""
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
    if data.path is None:
        return download.fetch(data.url) if data.url else download.fetch(URL, FILE)
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
    name = file.parent.parent.name.removeprefix("MT_").lower()
    return "good" if name == "free" else name


def _place(parts: tuple[str, ...]) -> PurePosixPath | None:
    """Where a member of the archive goes: the part of its path from MT_<class> on."""
    for i, part in enumerate(parts[:-2]):
        if part.removeprefix("MT_") in CLASSES and part.startswith("MT_"):
            return PurePosixPath(*parts[i:])
    return None
