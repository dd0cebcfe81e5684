"""Reads a JSON file that may come from anywhere: bounded in size, depth and digits before anything is made of it."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from edge.errors import ModelError
from edge.inference.names import without_waiting

MOST_BYTES = 1 << 22  # a choice, a thousand times what a model.json has; so are the two below
DEEPEST = 64  # Python's own limit (RecursionError) may have been lifted by a library, and then the process ends
DIGITS = 1000  # of a whole number: reading one takes the square of their number

# a string, whole or cut off at the end of the text, is passed over in one step; so is whatever is no bracket
TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def read_json(path: Path) -> Any:
    """What a JSON file holds; FileNotFoundError when there is none, ModelError for anything else that is wrong."""
    try:
        with open(path, "rb", opener=without_waiting) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ModelError(f"{path}: not a regular file")
            data = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror or error}") from None
    if len(data) > MOST_BYTES:
        raise ModelError(f"{path}: more than {MOST_BYTES >> 20} MiB; this is no model.json")
    return parsed(path, data)


def parsed(path: Path, data: bytes) -> Any:
    """What the bytes of a JSON text hold; ModelError, which names them by `path`, for whatever is wrong with them."""
    try:
        text = data.decode("utf-8")
        if depth(text) <= DEEPEST:
            return json.loads(text, parse_int=_whole)
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not UTF-8: byte {error.start} is {data[error.start]:#04x}") from None
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from None
    raise ModelError(f"{path}: nested more than {DEEPEST} deep")


def depth(text: str) -> int:
    """How many brackets outside of strings are open at once at most; DEEPEST + 1 as soon as there are more."""
    deepest = now = 0
    for token in TOKEN.finditer(text):
        if token[0] in "[{":
            now += 1
            deepest = max(deepest, now)
            if deepest > DEEPEST:
                break
        elif token[0] in "]}":
            now = max(0, now - 1)
    return deepest


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)
