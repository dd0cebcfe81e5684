"""What a user can cause, as one line."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input: the message says what, where and what to do; a command prints it and exits with 1."""


class ModelError(UserError):
    """A model folder that can't be used; the message names the file, the field and what is allowed."""
