"""The truth file of a sample video, and how well scores agree with it."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from edge.app import tables
from edge.errors import UserError
from edge.inference import scoring

COLUMNS = ("frame", "label", "defect", "moving", "x", "y", "width", "height")


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """One row per frame: label 0 or 1, the defect's type and box in pixels, whether the line is moving on."""
    try:
        with open(path, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None


def check_target(path: Path) -> None:
    """UserError where the truth file would replace a file that is none."""
    if os.path.lexists(path) and _header(path) != ",".join(COLUMNS).encode():
        raise UserError(f"{path}: exists and is no truth file; choose another name for the video")


def _header(path: Path) -> bytes:
    """The first line of a regular file; empty where there is none."""
    if not os.path.isfile(path):
        return b""
    try:
        with open(path, "rb") as stream:
            return stream.read(200).split(b"\n")[0]
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None


def read(path: str | Path) -> dict[int, int]:
    """The label of each frame."""
    wanted = "not a truth file; it needs the columns frame and label (0 or 1)"
    labels = {}
    for row in tables.rows(Path(path), ("frame", "label"), wanted):
        found = tables.label(row["label"])
        if found is None or not (row["frame"].isascii() and row["frame"].isdigit() and len(row["frame"]) < 19):
            raise UserError(f"{path}: {wanted}")
        labels[int(row["frame"])] = found
    return labels


def auroc(labels: dict[int, int], scores: dict[int, float], path: str) -> float:
    """Area under the ROC curve of the frames that have both a label and a score."""
    frames = sorted(labels.keys() & scores.keys())
    found = scoring.auroc(np.array([labels[f] for f in frames]), np.array([scores[f] for f in frames]))
    if found is None:
        raise UserError(f"{path}: the frames seen need both labels for an AUROC")
    return found
