"""Reads the layout of MVTec AD: train/good, test/<defect type> and ground_truth/<defect type>/<name>_mask.png."""

import os
from collections.abc import Iterable
from pathlib import Path

from edge.errors import UserError
from edge.preprocess import SUFFIXES, find_pictures
from stages.fetch import watched
from stages.fetch.picture import Picture

SHOWN = 3  # names in a line; a choice
FOLDERS = ("train", "test", "ground_truth")


def read(root: Path, data, masks: str) -> list[Picture]:
    """The pictures under `root`; without test/good, fetch draws the good test pictures from train/good.

    `masks`: "required", or "optional" where a defect type may come without its folder in ground_truth.
    """
    for where, names in (root, FOLDERS), (root / "train", ("good",)), (root / "test", ("good",)):
        for folder in _folders(where):
            meant = folder.name.strip().casefold()
            if meant in names and folder.name != meant:
                raise UserError(f"{folder}: rename it to {meant}")
    if not (root / "train" / "good").is_dir():
        raise UserError(f"{root}/train/good: no such folder; put the good pictures there or correct data.path")
    for other in _folders(root / "train"):
        if other.name != "good":
            raise UserError(f"{other}: only train/good is learned from; move its pictures to test/{other.name}")
    if not (root / "test").is_dir():
        raise UserError(f"{root}/test: no such folder; put defective pictures into test/<defect type>")
    types = _folders(root / "test")
    if all(folder.name == "good" for folder in types):
        raise UserError(f"{root}/test: no defect type; put defective pictures into test/<defect type>")

    _check_ground_truth(root / "ground_truth", [folder.name for folder in types])
    origin = "train" if any(folder.name == "good" for folder in types) else "any"
    pictures = [_picture(root, file, "good", None, origin) for file in pictures_in(root / "train" / "good")]
    for folder in types:
        defect, images = folder.name, pictures_in(folder)
        drawn = None if defect == "good" else _masks(root / "ground_truth" / defect, masks)
        for file in images:
            mask = None
            if drawn is not None:
                mask = drawn.get(f"{file.stem}_mask")
                if mask is None:
                    raise UserError(
                        f"{file}: no mask {root}/ground_truth/{defect}/{file.stem}_mask.png; "
                        + ("add it" if masks == "required" else f"add it, or remove ground_truth/{defect}")
                    )
            pictures.append(_picture(root, file, defect, mask, "test"))
    _say_what_is_outside(root, [folder.name for folder in types], pictures)
    return pictures


def _picture(root: Path, file: Path, defect: str, mask: Path | None, origin: str) -> Picture:
    return Picture(file, f"{defect}/{file.name}", defect, mask, file.relative_to(root).as_posix(), origin)


def _check_ground_truth(folder: Path, types: list[str]) -> None:
    """UserError for masks that belong to no defect type, which would pass for a data set without masks."""
    for entry in _visible(folder):
        if entry.is_dir() and entry.name not in (*types, "good"):
            raise UserError(f"{entry}: masks of no defect type, there is no test/{entry.name}; correct its name")
        if entry.is_file() and entry.suffix.lower() in SUFFIXES:
            raise UserError(f"{entry}: a mask outside a defect type; move it to ground_truth/<defect type>")


def _masks(folder: Path, masks: str) -> dict[str, Path] | None:
    """The masks by stem; None where the defect type has none and needs none."""
    if folder.is_dir():
        return {file.stem: file for file in _pictures(folder)}
    if masks == "optional":
        return None
    raise UserError(f"{folder}: no such folder; the masks of test/{folder.name} belong there")


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder; UserError where there is none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; fetch the dataset again or correct data.path")
    found = _pictures(folder)
    if not found:
        raise UserError(f"{folder}: holds no picture ({', '.join(SUFFIXES)}); add some or remove the folder")
    return found


def _pictures(folder: Path) -> list[Path]:
    """The pictures in a folder; a line says what else is there."""
    _visible(folder)
    found, left_out = find_pictures(folder, deep=False)
    if left_out:
        print(f"left out of {folder}: {left_out}", flush=True)
    return found


def by_stem(folder: Path) -> dict[str, Path]:
    """The masks in a folder by the stems of their names; UserError where there is no such folder."""
    return {file.stem: file for file in pictures_in(folder)}


def say_unused(folder: Path, masks: Iterable[Path]) -> None:
    """A line for masks that belong to no picture."""
    if unused := sorted(masks):
        print(f"left out of {folder}: {len(unused)} masks of no picture, such as {unused[0].name}", flush=True)


def _say_what_is_outside(root: Path, types: list[str], pictures: list[Picture]) -> None:
    """A line for each folder that holds more than the layout has a place for, for masks of no picture and for links."""
    places = (root, set(FOLDERS)), (root / "train", {"good"}), (root / "test", set(types))
    for folder, known in (*places, (root / "ground_truth", {*types} - {"good"})):
        others = [entry.name + "/" * entry.is_dir() for entry in _visible(folder) if entry.name not in known]
        if others:
            more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            print(f"left out of {folder}: {', '.join(others[:SHOWN])}{more}", flush=True)
    used = {picture.mask for picture in pictures}
    for folder in (root / "ground_truth" / defect for defect in types if defect != "good"):
        say_unused(folder, [file for file in find_pictures(folder, deep=False)[0] if file not in used])
    real = Path(os.path.realpath(root))
    outside = [file for picture in pictures for file in picture.files if _is_linked(root, real, file)]
    if outside and not watched.is_watched(root):  # in data/raw links to files are followed, others refused
        print(
            f"warning: {len(outside)} files are links or below one, such as {outside[0]}: they are read, but DVC "
            "doesn't see a change of what they point to; run dvc repro -f fetch then",
            flush=True,
        )


def _is_linked(root: Path, real: Path, file: Path) -> bool:
    """Whether a link leads from `root`, which is at `real`, to the file."""
    return Path(os.path.realpath(file)) != real / file.relative_to(root)


def _folders(folder: Path) -> list[Path]:
    return [f for f in _visible(folder) if f.is_dir()]


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    entries = sorted(f for f in folder.iterdir() if not f.name.startswith("."))
    for entry in entries:
        if not entry.name.isprintable():
            raise UserError(f"{folder}: {entry.name!r} has unprintable characters in its name; rename it")
    return entries
