"""UCSD Ped1 or Ped2: a walkway seen from above; bikers, skaters and carts are the anomalies.

V. Mahadevan, W. Li, V. Bhalodia, N. Vasconcelos, "Anomaly detection in crowded scenes", CVPR 2010. A clip is a folder
Train001 or Test001 of frames; `gt_frame` in UCSDped2.m gives the anomalous frames of every test clip, in the order of
their numbers and counted from 1, and Test001_gt, where there is one, the pixels.
"""

import re
from pathlib import Path, PurePosixPath

from edge.errors import UserError
from stages.common.dataset import sha256
from stages.common.textfile import read_text
from stages.fetch import archive, clip, download, hashes
from stages.fetch.picture import Picture
from stages.fetch.published import unverified

URL = "http://www.svcl.ucsd.edu/projects/anomaly/UCSD_Anomaly_Dataset.tar.gz"
FILE = "UCSD_Anomaly_Dataset.tar.gz"
SHA256 = "2329af326951f5097fdd114c50e853957d3e569493a49d22fc082a9fd791915b"  # as anomalib checks it
SUBSETS = {"ped1": "UCSDped1", "ped2": "UCSDped2"}


def load(data, work: Path) -> list[Picture]:
    """The clips of `data.category` (ped1 or ped2; where only one is there, that one) from the folder or archive at
    `data.path`, or from the public archive, which has a known hash."""
    source = _source(data)
    file = source if source.is_file() else None
    if file:
        if source.name == FILE and not data.url and sha256(source) != SHA256:
            raise UserError(f"{source}: its sha256 is not {SHA256}; remove it and run again, or replace it")
        wanted = _wanted(data.category)
        archive.extract(source, work / "archive", lambda parts: _place(parts, wanted))
        source = work / "archive"
    root = _root(source, data.category)
    found = []
    for folder in sorted(root.glob("Train/Train[0-9][0-9][0-9]")):
        found += clip.pictures(folder.name, list(clip.numbered(folder).values()), "train")
    intervals = read_intervals(root)
    for folder in sorted(root.glob("Test/Test[0-9][0-9][0-9]")):
        found += _test_clip(folder, intervals)
    hashes.verify_pictures(root, found, data.hashes)
    if file and data.url and data.path is None and not data.hashes:
        return unverified(data.url, file, found)
    return found


def _test_clip(folder: Path, intervals: list[list[int]]) -> list[Picture]:
    """The frames of a test clip; `intervals`: the numbers of the anomalous frames of every clip."""
    number = int(folder.name.removeprefix("Test"))
    if not 1 <= number <= len(intervals):
        raise UserError(f"{folder}: the .m file says nothing of clip {number}, it has {len(intervals)}; replace it")
    frames = clip.numbered(folder)
    places = {frame: place for place, frame in enumerate(frames)}
    if lost := set(intervals[number - 1]) - places.keys():
        raise UserError(f"{folder}: lacks frame {min(lost)}, which the .m file marks; fetch the dataset again")
    truth = folder.with_name(f"{folder.name}_gt")
    masks = {places[n]: file for n, file in clip.numbered(truth).items() if n in places} if truth.is_dir() else {}
    return clip.pictures(folder.name, list(frames.values()), "test", {places[n] for n in intervals[number - 1]}, masks)


def read_intervals(root: Path) -> list[list[int]]:
    """The numbers of the anomalous frames of each test clip, as the .m file in `Test` has them."""
    files = [path for path in sorted(root.glob("Test/*.m")) if not path.name.startswith(".")]
    if len(files) != 1:
        raise UserError(
            f"{root / 'Test'}: holds {len(files)} .m files; one of them has the anomalous frames (gt_frame)"
        )
    text = re.sub(r"%.*", "", read_text(files[0], "fetch the dataset again"))
    found = []
    for listed in re.findall(r"gt_frame\s*=\s*\[(.*?)\]", text, re.DOTALL):
        numbers: list[int] = []
        for part in re.split(r"[\s,;]+", re.sub(r"\s*:\s*", ":", listed.strip())):
            match = re.fullmatch(r"(\d{1,7})(?::(\d{1,7}))?", part)
            if match is None:
                raise UserError(f"{files[0]}: gt_frame = [{listed[:40]}]: not numbers and first:last; replace it")
            numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
        found.append(numbers)
    if not found:
        raise UserError(f"{files[0]}: has no gt_frame = [first:last]; replace it")
    return found


def _source(data) -> Path:
    """The archive, downloaded if need be, or the folder that holds the clips."""
    if data.path is None:
        return download.fetch(data.url or URL, None if data.url else FILE, listed=not data.url or bool(data.hashes))
    path = archive.existing(data.path)
    if path.is_dir() and not _roots(path):
        return archive.only_one(path, "UCSD", "Train/Train001 and Test/Test001")
    return path


def _roots(path: Path) -> dict[str, Path]:
    """The subsets in or below a folder, by name; "" for one whose folder is called otherwise."""
    names = {folder: name for name, folder in SUBSETS.items()}
    folders = [path, *sorted(p for p in path.glob("*") if p.is_dir()), *sorted(path.glob("*/UCSDped*"))]
    return {names.get(p.resolve().name, ""): p for p in folders if (p / "Train").is_dir() and (p / "Test").is_dir()}


def _root(path: Path, category: str) -> Path:
    """The folder of the subset; UserError where it isn't clear which."""
    found = _roots(path)
    if category in found:
        return found[category]
    if len(found) != 1 or (category in SUBSETS and "" not in found):
        there = ", ".join(filter(None, sorted(found))) or "neither of them"
        raise UserError(f"{path}: set data.category to ped1 or ped2; there is {there}")
    return next(iter(found.values()))


def _wanted(category: str) -> tuple[str, ...]:
    return (SUBSETS[category],) if category in SUBSETS else tuple(SUBSETS.values())


def _place(parts: tuple[str, ...], wanted: tuple[str, ...]) -> PurePosixPath | None:
    """Where a member of the archive goes: from the subset on, without hidden files."""
    for i, part in enumerate(parts[:-1]):
        if part in wanted and not any(name.startswith(".") for name in parts[i:]):
            return PurePosixPath(*parts[i:])
    return None
