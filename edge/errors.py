"""What a user can cause, as one line."""

from __future__ import annotations

import re

LONGEST = 200  # characters of what a library says
OPENCV = re.compile(r"^OpenCV\(.*?\) \S+: error: \([^)]*\) ")


def shown(text: object) -> str:
    """The text on one line, to be printed anywhere: line breaks, control characters and the bytes of a name that is not
    UTF-8 as Python writes them ("\\n", "\\udcfc")."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def reason(error: BaseException) -> str:
    """What a library's exception says, on one line; OpenCV's without the place in its code.

    (Its attribute `err` belongs to the class: it is what the last error of any thread said.)
    """
    if isinstance(error, MemoryError):
        return "not enough memory"
    text = " ".join(str(error).split())
    return (OPENCV.sub("", text, 1) or type(error).__name__)[:LONGEST]


class UserError(ValueError):
    """Bad input: the message says what, where and what to do, on one line; a command prints it and exits with 1."""

    def __init__(self, message: str):
        super().__init__(shown(message))


class ModelError(UserError):
    """A model folder that can't be used; the message names the file, the field and what is allowed."""
