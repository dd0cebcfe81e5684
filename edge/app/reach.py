"""Why a video can't be opened, in words that name the cause: OpenCV says no more than that it can't."""

from __future__ import annotations

import os
import re
import stat
import sys
from glob import glob
from urllib.parse import unquote, urlsplit

from edge.address import masked
from edge.errors import UserError
from edge.inference.names import is_utf8

MOST_CAMERAS = 9999  # OpenCV takes the hundreds for a backend
DEVICE = re.compile(r"/dev/video([0-9]+)")
KINDS = (
    (stat.S_ISDIR, "a folder; give a video file"),
    (stat.S_ISCHR, "a device, but no camera (/dev/video...)"),
    (stat.S_ISBLK, "a disk, not a video file"),
    (stat.S_ISFIFO, "a pipe; give a video file or an address"),
    (stat.S_ISSOCK, "a socket; give a video file or an address"),
)


def is_camera(where: str) -> bool:
    """Whether this is the number of a camera; other digits than ASCII's are a file's name."""
    return where.isascii() and where.isdigit()


def local_file(where: str) -> str:
    """The path in a file:// address; anything else as it is."""
    if not where.lower().startswith("file://"):
        return where
    path = where[len("file://") :]
    path = path[len("localhost") :] if path.startswith("localhost/") else path
    return unquote(path, errors="surrogateescape")  # as Python has names that are not UTF-8


def camera(where: str) -> str:
    """The number of a camera that is given by its device or by a link to it (/dev/v4l/by-id/...); else `where`."""
    found = DEVICE.fullmatch(os.path.realpath(where)) if where.startswith("/dev/") and os.path.exists(where) else None
    return found[1] if found else where


def check(where: str, given: str) -> None:
    """UserError, about what was `given`, for what can't be opened as a video, without opening it."""
    if is_camera(where):
        if len(where) > len(str(MOST_CAMERAS)) or int(where) > MOST_CAMERAS:
            raise UserError(f"{where}: a camera's number is at most {MOST_CAMERAS}")
    elif "://" in where:
        if not is_utf8(where):
            raise UserError(f"{given}: an address must be UTF-8; write other bytes as %XX")
        try:
            urlsplit(masked(where))
        except ValueError as error:
            raise UserError(f"{given}: no address that can be opened: {error}") from None
    else:
        _check_file(where, given)


def _check_file(path: str, given: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        what = "device; is the camera plugged in?" if path.startswith("/dev/") else "video file"
        raise UserError(f"{given or repr(given)}: no such {what}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{given}: can't be opened: {getattr(error, 'strerror', None) or error}") from None
    for is_kind, what in KINDS:
        if is_kind(mode):
            raise UserError(f"{given}: {what}")


def why(where: str) -> str:
    """What may be the reason that OpenCV did not open a source that `check` let pass."""
    if is_camera(where):
        return _why_camera(f"/dev/video{int(where)}")
    if "://" in where:
        return "camera or stream is not reachable, or of a kind that OpenCV does not read"
    try:
        with open(where, "rb") as stream:
            return "not a video that OpenCV reads" if stream.read(1) else "an empty file"
    except OSError as error:
        return f"can't be opened: {error.strerror}"


def _why_camera(device: str) -> str:
    if sys.platform != "linux":
        return "this camera is not reachable"
    if not os.path.exists(device):
        others = sorted(glob("/dev/video*"))
        return f"no camera is plugged in as {device}" + (f"; there are {', '.join(others)}" if others else "")
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
    except PermissionError:
        return f"no permission for {device}; add the user to the group that it belongs to (video)"
    except OSError as error:
        return f"{device} can't be opened: {error.strerror}"
    return f"{device} is in use by another program, or no camera that OpenCV reads"
