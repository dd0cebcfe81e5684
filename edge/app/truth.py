"""The truth file of a sample video, and how well scores agree with it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import UserError
from edge.inference import scoring

COLUMNS = ("frame", "label", "defect", "moving", "x", "y", "width", "height")


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """One row per frame: label 0 or 1, the defect's type and box in pixels, whether the line is moving on."""
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def check_target(path: Path) -> None:
    """UserError where the truth file would replace a file that is none."""
    if path.exists() and (not path.is_file() or path.read_bytes()[:200].split(b"\n")[0] != ",".join(COLUMNS).encode()):
        raise UserError(f"{path}: exists and is no truth file; choose another name for the video")


def read(path: str | Path) -> dict[int, int]:
    """The label of each frame."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            return {int(row["frame"]): int(row["label"]) for row in csv.DictReader(stream)}
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not a truth file; it needs the columns frame and label (0 or 1)") from None


def auroc(labels: dict[int, int], scores: dict[int, float], path: str) -> float:
    """Area under the ROC curve of the frames that have both a label and a score."""
    frames = sorted(labels.keys() & scores.keys())
    found = scoring.auroc(np.array([labels[f] for f in frames]), np.array([scores[f] for f in frames]))
    if found is None:
        raise UserError(f"{path}: the frames seen need both labels for an AUROC")
    return found
