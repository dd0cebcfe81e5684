"""What comes in over MQTT: the states of sensors (a door, a shift), and events that a person dismisses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote

from edge.event import LONGEST

TOPICS = ("sensors/+", "dismiss")  # below the device's prefix
STATES = {"on": True, "open": True, "true": True, "1": True, "off": False, "closed": False, "false": False, "0": False}


class Inputs(Protocol):
    """Takes what came in, in any thread."""

    def set(self, sensor: str, on: bool) -> None: ...

    def dismiss(self, event: str) -> None: ...


def heard(inputs: Inputs, topic: str, payload: bytes, say: Callable[[str], None]) -> None:
    """Passes on a message of a topic (without the prefix); one that is none of these is told and left."""
    kind, _, name = topic.partition("/")
    text, name = payload.decode("utf-8", "replace").strip(), unquote(name, errors="replace")
    if kind == "dismiss" and 0 < len(text) <= LONGEST:
        inputs.dismiss(text)
    elif kind == "sensors" and name and text.lower() in STATES:
        inputs.set(name, STATES[text.lower()])
    else:
        allowed = "the id of an event" if kind == "dismiss" else " or ".join(STATES)
        say(f"{topic[:LONGEST]}: {text[:20]!r} left out: must be {allowed}")
