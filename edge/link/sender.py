"""What every way out of the device offers, and how it fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

TOPICS = {"event": "events", "clip": "clips", "stats": "stats"}  # kind of message: end of its topic or address
TIMEOUT = 30.0  # seconds without an answer; a lost first packet is sent again after 1, 3, 7 and 15 s (RFC 6298)


class LinkError(Exception):
    """A message did not arrive, as far as is known: it is sent again later."""


class Unheard(LinkError):
    """The broker has it, but nobody to pass it on to."""


class Refused(Exception):
    """The other side has said that it will never take this message: sending it again would keep back all others."""


class Sender(Protocol):
    """Brings sealed messages to a broker or server, one at a time, so that they arrive in their order.

    `settles` is how many seconds an acknowledged message may still be lost with the one that acknowledged it: if the
    connection ends before, it is sent again.
    """

    settles: float

    def connect(self) -> int:
        """Makes the connection, where there is none, and returns its number; LinkError when that fails."""

    def send(self, kind: str, payload: bytes) -> None:
        """Returns when the other side has the message; LinkError or Refused when it hasn't. Makes no connection that
        counts up, so that what the last one may have lost goes first."""

    def states(self, states: Mapping[tuple[str, str], bool]) -> None:
        """Shows which rules of which cameras (camera, rule) have an event now, where the site wants that shown."""

    def close(self) -> None:
        """Ends the connection in order."""
