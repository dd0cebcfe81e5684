"""No output may replace what is being read, another output of the run, or a file that is not ours."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from edge.errors import UserError

PNG_HEADER = 33  # bytes: the signature and the IHDR chunk, after which any other chunk may stand
_TEXT = b"tEXtSoftware\0edge-vision overlay"
MARK = struct.pack(">I", len(_TEXT) - 4) + _TEXT + struct.pack(">I", zlib.crc32(_TEXT))


def identity(path: str | Path) -> object:  # to be compared and hashed only
    """The same for all names of one file: links, hard links, `a/../b`; of what does not exist yet, the place."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def check(targets: Iterable[Path], read: Iterable[Path]) -> None:
    """UserError where a target is a file that is read, or two targets are one file."""
    inputs, seen = {identity(path) for path in read}, set()
    for target in targets:
        found = identity(target)
        if found in inputs:
            raise UserError(f"{target}: is an input; choose another output")
        if found in seen:
            raise UserError(f"{target}: would hold two outputs; rename one of the inputs")
        seen.add(found)


def check_overlays(folder: Path, root: Path, targets: list[Path], read: list[Path]) -> None:
    """UserError where the overlays would lie among the pictures of the folder `root`, so that the next run reads them
    as pictures, or where one would replace a picture or any other file that is no overlay."""
    place, source = os.path.realpath(folder), os.path.realpath(root)
    if root.is_dir() and (place == source or source in map(str, Path(place).parents)):
        raise UserError(f"{folder}: lies in the folder of pictures {root}; choose a folder for overlays outside it")
    check(targets, read)
    for target in targets:
        if os.path.lexists(target) and not is_overlay(target):
            raise UserError(f"{target}: exists and is no overlay; choose another folder for overlays")


def is_overlay(path: Path) -> bool:
    """Whether the file is a PNG that `marked` made."""
    try:
        with open(path, "rb") as stream:
            return stream.read(PNG_HEADER + len(MARK)).endswith(MARK)
    except OSError:
        return False


def marked(png: bytes) -> bytes:
    """The PNG file that also says that it is an overlay, so that a later run may replace it."""
    return png[:PNG_HEADER] + MARK + png[PNG_HEADER:]
