"""Reads a table that a stage or a command wrote, from wherever the user points."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edge.errors import UserError
from edge.inference.names import without_waiting


def rows(path: Path, columns: tuple[str, ...], wanted: str, hint: str = "") -> Iterator[dict[str, str]]:
    """The named columns of each row of a CSV file, all of them text; UserError that says what is `wanted` where it is
    another file, and `hint` where none can be read."""
    try:
        with open(path, newline="", encoding="utf-8", opener=without_waiting) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise UserError(f"{path}: can't be read: not a regular file{hint}")
            table = csv.DictReader(stream, restval="")
            if not set(columns) <= set(table.fieldnames or ()):
                raise UserError(f"{path}: {wanted}")
            for row in table:
                yield {name: row[name] for name in columns}
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror or error}{hint}") from None
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path}: {wanted}") from None


def label(text: str) -> int | None:
    """0 (good) or 1 (a defect); None for anything else."""
    return {"0": 0, "1": 1}.get(text.strip())
