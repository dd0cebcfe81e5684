"""One of the ten classes of DAGM 2007: textures with artificial defects, with the split that comes with them.

M. Wieler, T. Hahn, "Weakly supervised learning for industrial optical inspection", competition at the DAGM symposium
2007. Its page offers the data to everybody (hci.iwr.uni-heidelberg.de/content/weakly-supervised-learning-industrial-
optical-inspection) and names no other licence.

    Class1/Train/0576.PNG  Class1/Train/Label/Labels.txt  Class1/Train/Label/0595_label.PNG
    Class1/Test/0001.PNG   Class1/Test/Label/Labels.txt   Class1/Test/Label/0003_label.PNG

Labels.txt has a heading of one number, then a row for each picture: its number, 1 where it has a defect, its file, 0,
and the file of its mask (0: none). A mask is a rough ellipse around the defect. Both halves have defects: those of
Train are learned from where `data.split` is supervised, and left out otherwise. A list for data.hashes, made in the
folder that holds the class:

    find Class1 -iname '*.png' | sort | xargs sha256sum
"""

from pathlib import Path, PurePosixPath

from edge.errors import UserError
from edge.preprocess import find_pictures
from stages.common.textfile import read_text, short
from stages.fetch import archive, layout
from stages.fetch.picture import Picture
from stages.fetch.published import Published, find, verified

KNOWN = Published(
    name="DAGM 2007",
    licence="see hci.iwr.uni-heidelberg.de/content/weakly-supervised-learning-industrial-optical-inspection",
    content="folder Class1/Train",
    hint="DAGM",
    page="hci.iwr.uni-heidelberg.de/content/weakly-supervised-learning-industrial-optical-inspection",
    categories=tuple(f"Class{number}" for number in range(1, 11)),
    marker="Train",
)
HALVES = (("Train", "train"), ("Test", "test"))
COLUMNS = "number, 0 or 1, picture, 0, mask (0: none)"


def load(data, work: Path) -> list[Picture]:
    """The verified pictures of `data.category`; the defects are all of one type."""

    def keep(parts: tuple[str, ...]) -> PurePosixPath | None:
        return archive.below(parts, (data.category,), ("Train", "Test"))

    source = find(KNOWN, data, work, keep)
    root = source.root / data.category
    pictures = [picture for half, origin in HALVES for picture in read(root / half, origin)]
    files = [file for picture in pictures for file in picture.files]
    return verified(KNOWN, data, source, files, pictures, f"{data.category}/")


def read(folder: Path, origin: str) -> list[Picture]:
    """The pictures of one half, which are exactly those that Labels.txt lists."""
    files = {file.name: file for file in layout.pictures_in(folder)}
    table, pictures = folder / "Label" / "Labels.txt", []
    masks = {file.name: file for file in find_pictures(folder / "Label", deep=False)[0]}
    for number, name, mask in rows(table):
        if name not in files:
            raise UserError(f"{table}:{number}: lists {short(name)}, which is not in {folder}, or twice; correct it")
        if mask and mask not in masks:
            raise UserError(f"{folder / 'Label' / short(mask)}: the mask of {short(name)} is missing; add it")
        defect, file = "defect" if mask else "good", files.pop(name)
        group = f"{folder.name}/{name}"
        pictures.append(
            Picture(file, f"{defect}/{origin}_{name}", defect, masks.pop(mask) if mask else None, group, origin)
        )
    if files:
        raise UserError(f"{table}: says nothing of {len(files)} pictures, such as {min(files)}; correct it")
    layout.say_unused(folder / "Label", masks.values())
    return pictures


def rows(table: Path) -> list[tuple[int, str, str]]:
    """Line number, picture and mask (empty for a good picture) of each row; UserError for the first that is none."""
    found: list[tuple[int, str, str]] = []
    taken: dict[str, int] = {}
    for number, line in enumerate(read_text(table, "put the label file back").splitlines(), 1):
        cells = line.split()
        if not cells or (len(cells) == 1 and not found):  # the heading
            continue
        if len(cells) != 5 or cells[1] not in ("0", "1"):
            raise UserError(f"{table}:{number}: not a row of {COLUMNS}; correct it")
        name, mask = cells[2], "" if cells[4] == "0" else cells[4]
        if (cells[1] == "1") != bool(mask):
            raise UserError(
                f"{table}:{number}: {short(name)} is {'defective without' if cells[1] == '1' else 'good with'} "
                "a mask; correct it"
            )
        if mask and taken.setdefault(mask, number) != number:
            raise UserError(f"{table}:{number}: the mask {short(mask)} is that of line {taken[mask]} too; correct it")
        found.append((number, name, mask))
    return found
