"""The three standard streams as a command finds them: closed, full, a pipe whose reader has gone, or ASCII alone."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from edge.errors import UserError, shown


def prepare() -> None:
    """Makes the streams take any text; UserError when standard output is closed.

    What can't be encoded, such as a name that is not UTF-8, is written with backslashes. A closed stream is opened on
    the null device: else the next file to be opened would become that stream, and get what libraries print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (as long as the process)
    if sys.stdout is None:
        raise UserError("standard output is closed, so the results would be lost; > /dev/null discards them")


def complain(text: str) -> None:
    """A line on standard error; a stream that takes none is no reason to end."""
    try:
        print(shown(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _discard(sys.stderr)


def flush() -> None:
    """Writes what is still held back; OSError when it can't be written, BrokenPipeError when the reader has gone."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        _discard(sys.stderr)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _discard(sys.stdout)
        raise


def _discard(stream: TextIO) -> None:
    """Leads a stream that failed to the null device: Python flushes it at exit, and would print a traceback."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
