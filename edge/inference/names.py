"""Every file name that the file system takes reaches the libraries, which take fewer.

OpenCV 5 ends the process at a name that is not UTF-8, model runtimes raise what says nothing of the name, and FFmpeg
takes "10:30.mp4" for an address."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import UserError


def is_utf8(name: str) -> bool:
    """Whether the name can be written in UTF-8: a byte that isn't stands in it as half of a surrogate pair."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def without_waiting(name: str, flags: int) -> int:
    """An `opener` for `open` that opens a pipe, too, at once: else it waits until somebody writes into it."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


@contextmanager
def taken(path: str | Path) -> Iterator[str]:
    """A name of the file that any library opens, as long as the block lasts; UserErrors raised inside name `path`.

    Only a name that is not UTF-8 needs another: a link to its folder or, where the file's own name is the reason, to
    the file and to those beside it of the same stem (the weights of an OpenVINO model), in a folder of our own.
    """
    given = str(path)
    plain = given if os.path.isabs(given) else os.path.join(os.curdir, given)  # a name with a / is no address
    if is_utf8(plain):
        yield plain
        return
    with _own_folder(given) as own:
        link = _linked(os.path.abspath(given), own)
        try:
            yield link
        except UserError as error:
            raise type(error)(str(error).replace(link, given)) from None


@contextmanager
def _own_folder(given: str) -> Iterator[str]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="edge-vision-")
    except OSError as error:
        raise UserError(f"{given}: not UTF-8, and no link to it can be made ({error.strerror}); rename it") from None
    with folder as own:
        if not is_utf8(own):
            raise UserError(f"{given}: not UTF-8, and neither is the folder for temporary files; rename it")
        yield own


def _linked(path: str, own: str) -> str:
    """The name in `own` under which the file at `path` is found."""
    folder, name = os.path.split(path)
    try:
        if is_utf8(name):
            os.symlink(folder, os.path.join(own, "folder"))
            return os.path.join(own, "folder", name)
        stem, suffix = os.path.splitext(name)
        for other in {name, *os.listdir(folder)}:
            if os.path.splitext(other)[0] == stem and is_utf8(os.path.splitext(other)[1]):
                os.symlink(os.path.join(folder, other), os.path.join(own, "file" + os.path.splitext(other)[1]))
        if is_utf8(suffix):
            return os.path.join(own, "file" + suffix)
        os.symlink(path, os.path.join(own, "file"))
        return os.path.join(own, "file")
    except OSError as error:
        raise UserError(f"{path}: not UTF-8, and no link to it can be made ({error.strerror}); rename it") from None
