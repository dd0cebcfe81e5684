"""Why a video can't be opened, in words that name the cause: OpenCV says no more than that it can't."""

from __future__ import annotations

import os
import re
import stat
import sys
from glob import glob
from urllib.parse import unquote, urlsplit

from edge.address import check_host, masked
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
# the protocols of FFmpeg that OpenCV reads video by, and what an address of each can't do without
STREAMS = {
    **dict.fromkeys(("rtsp", "rtsps", "http", "https", "ftp", "mmsh", "mmst", "ipfs", "ipns"), "host"),
    **dict.fromkeys(("rtmp", "rtmps", "rtmpe", "rtmpt", "rtmpts", "rtmpte"), "host"),
    **dict.fromkeys(("udp", "udplite", "rtp", "srtp", "srt", "rist", "tcp", "tls"), "port"),
    "unix": "path",
}
FORMS = {"host": "HOST[:PORT][/PATH]", "port": "HOST:PORT", "path": "/PATH"}
COMMON = "rtsp, rtmp, http, https, srt, rtp or udp"


class NotThere(UserError):
    """A camera or stream that can't be opened now and may come, unlike a wrong address: worth another try."""


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
        check_address(where, given)
    else:
        _check_file(where, given)


def check_address(where: str, given: str) -> None:
    """UserError, about what was `given`, for an address at which there can never be a video."""
    if not is_utf8(where):
        raise UserError(f"{given}: an address must be UTF-8; write other bytes as %XX")
    plain = masked(where)  # a password may hold what would end the host; a path may hold what looks like a password
    why = _fault(plain)
    if why and _fault(where):
        raise UserError(f"{given}: {why}")


def _fault(address: str) -> str:
    """Why there can never be a video at an address, "" where there may be."""
    try:
        if any(ord(letter) < 32 for letter in address):  # which urlsplit would take away
            raise ValueError("it has a control character")
        parts = urlsplit(address)
        found = {"host": parts.hostname, "port": parts.port, "path": parts.path}
        if parts.hostname:
            check_host(parts.hostname)
    except ValueError as error:  # UnicodeError too
        return f"no address that can be opened: {error}"
    scheme = parts.scheme.rpartition("+")[2]  # hls+https
    if scheme not in STREAMS:
        return f"no address of a stream that OpenCV reads; must begin with {COMMON}, and ://"
    needed = STREAMS[scheme]
    if not found[needed]:
        return f"an address without a {needed}; must be {scheme}://{FORMS[needed]}"
    return ""


def _check_file(path: str, given: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.startswith("/dev/") and isinstance(error, FileNotFoundError):
            raise NotThere(f"{given}: no such device; is the camera plugged in?") from None
        raise UserError(f"{given or repr(given)}: no such video file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{given}: can't be opened: {getattr(error, 'strerror', None) or error}") from None
    for is_kind, what in KINDS:
        if is_kind(mode):
            raise UserError(f"{given}: {what}")


def failure(where: str, given: str) -> UserError:
    """The likely reason that OpenCV did not open a source that `check` let pass: NotThere where that may get better."""
    if is_camera(where):
        return _camera_failure(f"/dev/video{int(where)}", given)
    if "://" in where:
        return NotThere(f"{given}: camera or stream is not reachable, or of a kind that OpenCV does not read")
    try:
        with open(where, "rb") as stream:
            why = "not a video that OpenCV reads" if stream.read(1) else "an empty file"
    except OSError as error:
        why = f"can't be opened: {error.strerror}"
    return UserError(f"{given}: {why}")


def _camera_failure(device: str, given: str) -> UserError:
    if sys.platform != "linux":
        return NotThere(f"{given}: this camera is not reachable")
    if not os.path.exists(device):
        others = sorted(glob("/dev/video*"))
        more = f"; there are {', '.join(others)}" if others else ""
        return NotThere(f"{given}: no camera is plugged in as {device}{more}")
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
    except PermissionError:
        why = f"no permission for {device}; add the user to the group that it belongs to (video)"
        return UserError(f"{given}: {why}")
    except OSError as error:
        return NotThere(f"{given}: {device} can't be opened: {error.strerror}")
    return NotThere(f"{given}: {device} is in use by another program, or no camera that OpenCV reads")
