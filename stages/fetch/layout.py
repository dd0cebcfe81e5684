"""Reads the layout of MVTec AD: train/good, test/<defect type> and ground_truth/<defect type>/<name>_mask.png."""

from pathlib import Path

from edge.errors import UserError
from stages.fetch.picture import EXTENSIONS, Picture

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
    pictures = [_picture(root, file, "good", None, origin) for file in _images(root / "train" / "good")]
    for folder in types:
        defect, images = folder.name, _images(folder)
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
    return pictures


def _picture(root: Path, file: Path, defect: str, mask: Path | None, origin: str) -> Picture:
    return Picture(file, f"{defect}/{file.name}", defect, mask, file.relative_to(root).as_posix(), origin)


def _check_ground_truth(folder: Path, types: list[str]) -> None:
    """UserError for masks that belong to no defect type, which would pass for a data set without masks."""
    for entry in _visible(folder):
        if entry.is_dir() and entry.name not in (*types, "good"):
            raise UserError(f"{entry}: masks of no defect type, there is no test/{entry.name}; correct its name")
        if entry.is_file() and entry.suffix.lower() in EXTENSIONS:
            raise UserError(f"{entry}: a mask outside a defect type; move it to ground_truth/<defect type>")


def _masks(folder: Path, masks: str) -> dict[str, Path] | None:
    """The masks by stem; None where the defect type has none and needs none."""
    if folder.is_dir():
        return {f.stem: f for f in _visible(folder) if f.suffix.lower() in EXTENSIONS}
    if masks == "optional":
        return None
    raise UserError(f"{folder}: no such folder; the masks of test/{folder.name} belong there")


def _images(folder: Path) -> list[Path]:
    images = [f for f in _visible(folder) if f.is_file() and f.suffix.lower() in EXTENSIONS]
    if not images:
        raise UserError(f"{folder}: holds no picture ({', '.join(sorted(EXTENSIONS))}); add some or remove the folder")
    return images


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
