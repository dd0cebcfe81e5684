"""One of the twelve objects of VisA, with the one-class split that comes with it.

Y. Zou, J. Jeong, L. Pemula, D. Zhang, O. Dabeer, "SPot-the-Difference self-supervised pre-training for anomaly
detection and segmentation", ECCV 2022. Licence: CC BY 4.0.

    candle/Data/Images/Normal/0000.JPG
    candle/Data/Images/Anomaly/000.JPG  candle/Data/Masks/Anomaly/000.png
    candle/image_anno.csv      image,label,mask: the types of defects in each picture, or normal
    split_csv/1cls.csv         object,split,label,image,mask: train or test, normal or anomaly

A picture with defects of several types has the type `combined`. The pixels of a mask are numbers of types: all but 0
are a defect. The sha256 of the public archive is the one that anomalib checks. A list for data.hashes, made in the
folder of the archive:

    find candle -iname '*.jpg' -o -iname '*.png' | sort | xargs sha256sum
"""

import csv
import io
from pathlib import Path, PurePosixPath

from edge.errors import UserError
from stages.common.textfile import read_text, short
from stages.fetch.picture import Picture
from stages.fetch.published import Published, find, verified

KNOWN = Published(
    name="VisA",
    licence="CC BY 4.0 (github.com/amazon-science/spot-diff)",
    content="folder candle/Data/Images",
    hint="VisA",
    url="https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
    file="VisA_20220922.tar",
    sha256="2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
    categories=(
        "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2",
        "pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum",
    ),
    marker="Data/Images",
)  # fmt: skip
SPLIT = "split_csv/1cls.csv"
TABLE = 1 << 24  # bytes of a table: a choice; those of VisA have less than 1 MiB


def load(data, work: Path) -> list[Picture]:
    """The verified pictures of `data.category`, split as split_csv/1cls.csv says."""

    def keep(parts: tuple[str, ...]) -> PurePosixPath | None:
        for i, part in enumerate(parts[:-1]):
            if part == data.category and parts[i + 1] in ("Data", "image_anno.csv"):
                return PurePosixPath(*parts[i:])
            if parts[i:] == ("split_csv", "1cls.csv"):
                return PurePosixPath(*parts[i:])
        return None

    source = find(KNOWN, data, work, keep)
    root = source.root
    types = {row["image"]: row["label"] for row in table(root / data.category / "image_anno.csv", ("image", "label"))}
    pictures: list[Picture] = []
    seen: set[str] = set()
    for row in table(root / SPLIT, ("object", "split", "label", "image", "mask")):
        if row["object"] == data.category:
            pictures.append(picture(root, row, types.get(row["image"], "")))
            if row["image"] in seen:
                raise UserError(f"{root / SPLIT}: lists {short(row['image'])} twice; restore the file")
            seen.add(row["image"])
    if not pictures:
        raise UserError(f"{root / SPLIT}: lists no picture of {data.category}; restore the file")
    files = [file for one in pictures for file in one.files]
    return verified(KNOWN, data, source, files, pictures, f"{data.category}/")


def picture(root: Path, row: dict[str, str], types: str) -> Picture:
    """The picture of a row of the split; UserError where it contradicts itself or a file is missing."""
    where = f"{root / SPLIT}: {short(row['image'])}"
    if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly"):
        raise UserError(f"{where}: {short(row['split'])}, {short(row['label'])}: not a split and a label; restore it")
    bad = row["label"] == "anomaly"
    if bad != bool(row["mask"]):
        raise UserError(f"{where}: {row['label']} {'without' if bad else 'with'} a mask; restore the file")
    for name in filter(None, (row["image"], row["mask"])):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{where}: names a file outside {root}; restore the file")
        if not (root / name).is_file():
            raise UserError(f"{root / name}: listed in {SPLIT} but missing; fetch the dataset again")
    defect = defect_type(types) if bad else "good"
    file = root / row["image"]
    mask = root / row["mask"] if bad else None
    return Picture(file, f"{defect}/{file.name}", defect, mask, row["image"], row["split"])


def defect_type(label: str) -> str:
    """The type that a label of image_anno.csv names: the only one, combined where there are several."""
    types = [part.strip().replace("/", " ") for part in label.split(",") if part.strip()]
    return "combined" if len(types) > 1 else next(iter(types), "anomaly")


def table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV; UserError where it is missing or has other columns."""
    text = read_text(path, "fetch the dataset again", TABLE).removeprefix("\ufeff")
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV: {error}; fetch the dataset again") from None
    for number, row in enumerate(rows, 2):
        if any(row.get(column) is None for column in columns):
            raise UserError(f"{path}:{number}: needs the columns {', '.join(columns)}; fetch the dataset again")
    return rows
