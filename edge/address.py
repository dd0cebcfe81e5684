"""Addresses are shown without the passwords in them, and their hosts are such that can be looked for."""

from __future__ import annotations

import ipaddress
import re
import socket

# from the scheme to the last @ there is: a password may itself hold @, / or a space, and hiding too much does no harm
USER_INFO = re.compile(r"\b([a-z][a-z0-9+.-]+:/+).*@", re.IGNORECASE | re.DOTALL)
BARE_USER_INFO = re.compile(r"(?<!\S)[^\s/@:]+:[^\s/]*@")  # user:password@host, the scheme forgotten
SECRET_FIELD = re.compile(
    r"([?&;][^=&;\s]*(?:pass|pwd|psw|token|secret|key|auth|user|usr|login)[^=&;\s]*=)[^&;\s'\"]+", re.IGNORECASE
)


def masked(text: str) -> str:
    """The address, or the message that names it, with *** for user, password and secret fields of the query."""
    return SECRET_FIELD.sub(r"\1***", BARE_USER_INFO.sub("***@", USER_INFO.sub(r"\1***@", text)))


def check_host(host: str) -> None:
    """ValueError for what is neither the name nor the number of a host, so that it will never be found."""
    if len(host) > 253 or not host.isprintable() or " " in host:
        raise ValueError("a host's name has at most 253 characters and no blanks")
    if ":" in host:
        ipaddress.IPv6Address(host.partition("%")[0])
        return
    host.encode("idna")
    if host.rstrip(".").rpartition(".")[2].isdigit():
        try:
            socket.inet_aton(host)
        except OSError:
            raise ValueError(f"{host} is no IPv4 address") from None
