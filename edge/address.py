"""Addresses are shown without the passwords in them."""

from __future__ import annotations

import re

# from the scheme to the last @ there is: a password may itself hold @, / or a space, and hiding too much does no harm
USER_INFO = re.compile(r"\b([a-z][a-z0-9+.-]+:/+).*@", re.IGNORECASE | re.DOTALL)
BARE_USER_INFO = re.compile(r"(?<!\S)[^\s/@:]+:[^\s/]*@")  # user:password@host, the scheme forgotten
SECRET_FIELD = re.compile(
    r"([?&;][^=&;\s]*(?:pass|pwd|psw|token|secret|key|auth|user|usr|login)[^=&;\s]*=)[^&;\s'\"]+", re.IGNORECASE
)


def masked(text: str) -> str:
    """The address, or the message that names it, with *** for user, password and secret fields of the query."""
    return SECRET_FIELD.sub(r"\1***", BARE_USER_INFO.sub("***@", USER_INFO.sub(r"\1***@", text)))
