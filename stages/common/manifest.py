"""A list of the sha256 of all files in a folder, since DVC silently checks out a damaged object of its cache."""

import json
from pathlib import Path

from edge.errors import UserError
from stages.common.dataset import sha256

NAME = "manifest.json"


def write(folder: Path) -> None:
    """Lists every file of `folder` with its sha256."""
    found = {p.name: sha256(p) for p in sorted(folder.iterdir()) if p.name != NAME}
    (folder / NAME).write_text(json.dumps(found, indent=1) + "\n")


def verify(folder: Path) -> Path:
    """Returns `folder`; UserError when a listed file is missing or differs."""
    if not (folder / NAME).is_file():
        raise UserError(f"{folder}: not there or without {NAME}; run dvc repro")
    for name, expected in json.loads((folder / NAME).read_text()).items():
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise UserError(
                f"{folder / name}: damaged or missing (sha256 differs); delete {folder} and its object in .dvc/cache, "
                "then run dvc repro"
            )
    return folder
