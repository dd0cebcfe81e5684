"""The error that a wrong argument, file or address ends in."""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave can't be used; the message says what, where and what to do, in one line."""
