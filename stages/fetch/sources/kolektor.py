"""The Kolektor surface defects: KolektorSDD (electrical commutators) or KolektorSDD2, whichever lies at data.path.

D. Tabernik, S. Šela, J. Skvarč, D. Skočaj, "Segmentation-based deep-learning approach for surface-defect detection",
Journal of Intelligent Manufacturing 31, 2020; J. Božič, D. Tabernik, D. Skočaj, "Mixed supervision for surface-defect
detection: from weakly to fully supervised learning", Computers in Industry 129, 2021. Licence: CC BY-NC-SA 4.0, not for
commercial use.

    KolektorSDD    kos01/Part0.jpg     kos01/Part0_label.bmp      a folder for each commutator
    KolektorSDD2   train/10000.png     train/10000_GT.png         test/20000.png  test/20000_GT.png

Every picture has a mask, an empty one where it is good. KolektorSDD has no split of its own. Nearly every commutator
has a defect on one of its eight views, so commutators stay whole where `data.split` is supervised, as the authors have
it; otherwise each view is a group of its own, or nothing would be left to learn from. The defects in the train half of
KolektorSDD2 are learned from where `data.split` is supervised, and left out otherwise. A list for data.hashes, made in
the folder that holds kos01 or train:

    find . -iname '*.jpg' -o -iname '*.bmp' -o -iname '*.png' | sort | xargs sha256sum
"""

import re
from pathlib import Path, PurePosixPath

from edge.errors import UserError
from edge.preprocess import read_mask
from stages.common.progress import track
from stages.fetch import layout
from stages.fetch.picture import Picture
from stages.fetch.published import Published, find, verified

KNOWN = Published(
    name="KolektorSDD",
    licence="CC BY-NC-SA 4.0: not for commercial use (www.vicos.si/resources/kolektorsdd)",
    content="folder kos01 or train",
    hint="olektor",
    page="www.vicos.si/resources/kolektorsdd or www.vicos.si/resources/kolektorsdd2",
)
ITEM = re.compile(r"kos\d+")
MASK = re.compile(r"(.+?)(_label|_GT)(.*)")  # with something after it: a copy, which belongs to no picture


def load(data, work: Path) -> list[Picture]:
    """The verified pictures of the data set; the defects are all of one type."""

    def keep(parts: tuple[str, ...]) -> PurePosixPath | None:
        return PurePosixPath(*parts[-2:]) if len(parts) > 1 and _is_part(parts[-2]) else None

    source = find(KNOWN, data, work, keep, _is_root)
    pictures, files = [], []
    folders = sorted(folder for folder in source.root.iterdir() if folder.is_dir() and _is_part(folder.name))
    for folder in folders:
        found, masks = [], {}
        for file in layout.pictures_in(folder):
            if match := MASK.fullmatch(file.stem):
                masks[match[1] if not match[3] else file.stem] = file
            else:
                found.append(file)
        for file in track(found, folder.name):
            if file.stem not in masks:
                raise UserError(f"{file}: no mask {file.stem}{'_label.bmp' if _is_item(folder) else '_GT.png'}; add it")
            mask = masks.pop(file.stem)
            files += [file, mask]
            pictures.append(_picture(folder, file, mask, data.split == "supervised"))
        layout.say_unused(folder, masks.values())
    return verified(KNOWN, data, source, files, pictures)


def _picture(folder: Path, file: Path, mask: Path, supervised: bool) -> Picture:
    bad = bool(read_mask(mask).any())
    defect, own = "defect" if bad else "good", f"{folder.name}_{file.name}"
    if not _is_item(folder):
        return Picture(file, f"{defect}/{own}", defect, mask if bad else None, own, folder.name)
    group = folder.name if supervised else own
    return Picture(file, f"{defect}/{own}", defect, mask if bad else None, group, "test" if bad else "any")


def _is_item(folder: Path) -> bool:
    return bool(ITEM.fullmatch(folder.name))


def _is_part(name: str) -> bool:
    """Whether a folder of this name is a part of one of the data sets."""
    return bool(ITEM.fullmatch(name)) or name in ("train", "test")


def _is_root(folder: Path) -> bool:
    inside = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    return {"train", "test"} <= inside or any(ITEM.fullmatch(name) for name in inside)
