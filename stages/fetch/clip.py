"""Clips of a source: folders of numbered frames, or video files, and what is known of their frames."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import cv2
import numpy as np

from edge.errors import UserError
from edge.preprocess import find_pictures
from stages.common.progress import track
from stages.common.textfile import short
from stages.fetch.picture import Picture

VIDEOS = (".avi", ".mkv", ".mov", ".mp4", ".webm")
ANOMALY = "anomaly"  # the type of a frame whose source names none
QUALITY = 95  # of the JPEG files that frames of a video become: a choice; lossless ones would be ten times larger


def numbered(folder: Path) -> dict[int, Path]:
    """The pictures in a folder by the number at the end of their names, in its order; UserError where one has no number
    or two have the same. Hidden files, such as the `._001.tif` of the UCSD archive, are none."""
    found: dict[int, Path] = {}
    for path in find_pictures(folder, deep=False)[0]:
        number = re.search(r"(\d+)$", path.stem)
        if number is None:
            raise UserError(f"{path}: a frame's name ends in its number, such as 001{path.suffix}; rename it")
        if (twin := found.setdefault(int(number[1]), path)) != path:
            raise UserError(f"{path}: the same number as {twin.name}; a clip has one picture for each frame")
    if not found:
        raise UserError(f"{folder}: holds no frame; give a folder of pictures for each clip")
    return dict(sorted(found.items()))


def clips_in(folder: Path, work: Path) -> dict[str, list[Path]]:
    """The frames of every clip in a folder, which holds a folder of frames or a video file for each; by name, in the
    order of time. Videos are decoded into `work`. UserError where there is none."""
    found: dict[str, list[Path]] = {}
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        name = path.stem if path.is_file() else path.name
        if path.is_dir() or path.suffix.lower() in VIDEOS:
            if name in found:
                raise UserError(f"{path}: a second clip {name}; give them different names")
            found[name] = list(numbered(path).values()) if path.is_dir() else decoded(path, work / name)
    if not found:
        raise UserError(f"{folder}: holds no clip; give a folder of frames or a video ({', '.join(VIDEOS)}) for each")
    return found


def decoded(video: Path, folder: Path) -> list[Path]:
    """The frames of a video file as JPEG in `folder`, in the order of time; UserError where there is none."""
    try:
        str(video).encode()
    except UnicodeEncodeError:
        raise UserError(f"{video}: its name isn't UTF-8; rename it") from None
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    capture = cv2.VideoCapture(str(video.resolve()), cv2.CAP_FFMPEG)
    try:
        for picture in track(_frames(capture), f"decode {video.name}"):
            found.append(folder / f"{len(found):06d}.jpg")
            found[-1].write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
    finally:
        capture.release()
    if not found:
        raise UserError(f"{video}: no video that OpenCV reads, or an empty one; replace or remove it")
    return found


def _frames(capture):
    while True:
        fine, picture = capture.read()
        if not fine:
            return
        yield picture


def pictures(
    clip: str,
    files: list[Path],
    origin: str,
    marked: Mapping[int, str] | Collection[int] = (),
    masks: Mapping[int, Path] | None = None,
) -> list[Picture]:
    """The frames of one clip, which is one group. marked: the places, counted from 0, of the frames that show an
    anomaly, and its type where it is known. masks: of the pixels, by place; those of other frames are not taken."""
    kinds = marked if isinstance(marked, Mapping) else dict.fromkeys(marked, ANOMALY)
    if outside := [place for place in kinds if not 0 <= place < len(files)]:
        raise UserError(
            f"{short(clip)}: frame {min(outside) + 1} is marked, but it has {len(files)}; correct the labels"
        )
    return [
        Picture(
            file,
            f"{clip}/{file.name}",
            kinds.get(place, "good"),
            (masks or {}).get(place) if place in kinds else None,
            f"clip/{clip}",
            origin,
            clip=clip,
            frame=place,
        )
        for place, file in enumerate(files)
    ]


def write_masks(masks: np.ndarray, marked: Collection[int], folder: Path) -> dict[int, Path]:
    """Masks [T, H, W] as PNG files in `folder`, of the frames `marked` that have a pixel; by place."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for place in marked:
        if (mask := np.asarray(masks[place]) > 0).any():
            found[place] = folder / f"{place:06d}.png"
            found[place].write_bytes(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes())
    return found
