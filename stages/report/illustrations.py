"""What `illustrate` drew of the test pictures, copied to where the report has its figures."""

import shutil
from pathlib import Path

from edge.errors import UserError
from stages.report.summary import read_json

FOLDER = Path("artifacts/illustrations")


def read() -> dict:
    """{captions: {name of a figure: caption}, gallery: {variant, groups}}, as the templates show them."""
    return read_json(FOLDER / "shown.json")


def copy(plots: Path, data: Path) -> None:
    """The figures into `plots`, the gallery and its table into `data`."""
    try:
        for figure in FOLDER.glob("*.png"):
            shutil.copyfile(figure, plots / figure.name)
        shutil.copyfile(FOLDER / "gallery.csv", data / "gallery.csv")
        shutil.copytree(FOLDER / "gallery", data / "gallery", copy_function=shutil.copyfile)
    except (FileNotFoundError, shutil.Error) as error:
        raise UserError(f"{FOLDER}: incomplete ({error}); run dvc repro illustrate") from None
