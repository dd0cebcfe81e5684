"""What a user can cause, as one line."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input: the message says what, where and what to do; a command prints it and exits with 1."""
