"""Reads a secret from a file that nobody else can read; a secret is never on a command line or in a message."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge.errors import UserError
from edge.inference.names import without_waiting

MOST_BYTES = 1 << 16


def read_secret(path: str | Path) -> bytes:
    """What the file holds; UserError where it is readable for others, belongs to another user, or is no file."""
    try:
        with open(path, "rb", opener=without_waiting) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{path}: not a regular file; give a file of mode 0600")
            mode = stat.S_IMODE(status.st_mode)
            if mode & ~0o600:
                raise UserError(f"{path}: has mode {mode:04o}, must be 0600; chmod it, and renew its secret")
            if status.st_uid not in (0, os.geteuid()):
                raise UserError(f"{path}: belongs to another user; chown it to the one who runs this")
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror or error}") from None
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: no name of a file") from None
    if not data or len(data) > MOST_BYTES:
        raise UserError(f"{path}: {'empty' if not data else f'more than {MOST_BYTES >> 10} KiB'}; this is no secret")
    return data


def read_line(path: str | Path) -> str:
    """A password or token: the file's only line."""
    try:
        lines = read_secret(path).decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8") from None
    if len(lines) != 1 or not lines[0].isprintable() or not lines[0].strip():
        raise UserError(f"{path}: must hold one line of printable text")
    return lines[0]
