"""Clips of your own under `data.path` (null: data/raw, which DVC watches), in the layout of the source `folder`.

A clip is a folder of numbered frames or a video file: train/good/<clip>, test/good/<clip>, test/<anomaly>/<clip>. Two
things are optional: labels.csv with the columns clip, first and last says which frames (counted from 1) of a test clip
show the anomaly, else all of them do; ground_truth/<anomaly>/<clip>/ holds masks numbered as the frames are.
"""

import csv
import io
from pathlib import Path

from edge.errors import UserError
from stages.common.textfile import read_text
from stages.fetch import archive, clip, hashes
from stages.fetch.picture import Picture

DEFAULT = "data/raw"
LABELS = "labels.csv"


def load(data, work: Path) -> list[Picture]:
    """The clips of the folder."""
    root = archive.existing(data.path or DEFAULT)
    for name in ("train/good", "test"):
        if not (root / name).is_dir():
            raise UserError(f"{root}: has no folder {name}; clips lie in train/good/<clip> and test/<anomaly>/<clip>")
    intervals = read_labels(root / LABELS)
    found = []
    for name, frames in clip.clips_in(root / "train/good", work / "train").items():
        found += clip.pictures(f"train-{name}", frames, "train")
    unknown = dict(intervals)
    for folder in sorted(p for p in (root / "test").iterdir() if p.is_dir() and not p.name.startswith(".")):
        for name, frames in clip.clips_in(folder, work / "test" / folder.name).items():
            marked = unknown.pop(name, range(len(frames)) if folder.name != "good" else [])
            kind = folder.name if folder.name != "good" else clip.ANOMALY
            truth = root / "ground_truth" / folder.name / name
            masks = {n - 1: file for n, file in clip.numbered(truth).items()} if truth.is_dir() else {}
            found += clip.pictures(f"{folder.name}-{name}", frames, "test", dict.fromkeys(marked, kind), masks)
    if unknown:
        raise UserError(f"{root / LABELS}: there is no test clip {sorted(unknown)[0]}; correct the file")
    hashes.verify_pictures(root, found, data.hashes)
    return found


def read_labels(path: Path) -> dict[str, list[int]]:
    """The places, counted from 0, of the anomalous frames of each clip in the file; none where there is no file. A clip
    in it whose first and last are empty has none."""
    if not path.exists():
        return {}
    found: dict[str, list[int]] = {}
    advice = "it needs the columns clip, first and last, numbers of frames counted from 1"
    for number, row in enumerate(csv.DictReader(io.StringIO(read_text(path, advice), newline="")), 2):
        try:
            name, ends = row["clip"], (row["first"] or "", row["last"] or "")
            first, last = map(int, ends) if any(ends) else (1, 0)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path}:{number}: not a clip and two numbers; {advice}") from None
        if any(ends) and not 1 <= first <= last <= 10_000_000:
            raise UserError(f"{path}:{number}: frames {first} to {last}; {advice}")
        found.setdefault(name, []).extend(range(first - 1, last))
    return found
