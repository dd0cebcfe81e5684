"""The answers of a device: one line of JSON each, behind a mark, since a login shell may print whatever it likes."""

from __future__ import annotations

import json
import re
from typing import Any, Protocol

from hardware_runners.runner.errors import RunnerError

DEEPEST = 50  # levels of brackets; an answer has five
MARK = b"edge-vision-answer: "  # as remote/receive.py, probe.py and supervise.py print it
NOISE, MOST = 2**20, 2**28  # bytes before an answer, and of one: a choice, far above a banner and any result


class Stream(Protocol):
    async def read(self, size: int) -> bytes: ...


class Replies:
    """The answers on a stream; `noise` is what came before the first."""

    def __init__(self, name: str, stream: Stream):
        self.name, self.stream = name, stream
        self.noise, self.rest = b"", b""

    async def next(self) -> object:
        """The next answer, None at the end of the stream; RunnerError for one that is no JSON or has no end."""
        while True:
            before, found, after = self.rest.partition(MARK)
            if not found:
                self.noise += before[: -len(MARK)]  # a mark may have come in part
                self.rest = before[-len(MARK) :]
                if len(self.noise) > NOISE:
                    raise RunnerError(f"device {self.name}: its login shell prints without end; see its .bashrc")
            elif b"\n" in after:
                self.noise += before
                line, _, self.rest = after.partition(b"\n")
                return self.parsed(line)
            elif len(after) > MOST:
                raise RunnerError(f"device {self.name}: its answer has no end")
            chunk = await self.stream.read(65536)
            if not chunk:
                self.noise += self.rest
                return None
            self.rest += chunk

    def parsed(self, line: bytes) -> object:
        """The JSON of a line; what is nested deeper than any answer never reaches the parser, which would take the
        process with it where a library has lifted Python's limit of recursion (onnx2tf does)."""
        try:
            if depth(line) > DEEPEST:
                raise ValueError
            return json.loads(line)
        except ValueError:
            said = line[:80].decode(errors="replace")
            raise RunnerError(f"device {self.name}: an answer that is no JSON: {said!r}") from None


def depth(line: bytes) -> int:
    """How many brackets are open at once at most; those in strings count as well."""
    deepest = now = 0
    for bracket in re.findall(rb"[\[\]{}]", line):
        now += 1 if bracket in b"[{" else -1
        deepest = max(deepest, now)
    return deepest


def shaped(name: str, reply: object, **kinds: type) -> dict[str, Any]:
    """The answer, a dict with values of these kinds (an int is a float, too); else RunnerError."""
    if isinstance(reply, dict):
        wrong = [
            key
            for key, kind in kinds.items()
            if not isinstance(reply.get(key), (int, float) if kind is float else kind)
        ]
    else:
        wrong = sorted(kinds)
    if wrong or not isinstance(reply, dict):
        raise RunnerError(f"device {name}: an unexpected answer: {', '.join(wrong)} is missing or of another kind")
    return reply


def listed(name: str, reply: object, count: int) -> list[dict[str, Any]]:
    """The answer, a list of so many dicts; else RunnerError."""
    if not isinstance(reply, list) or len(reply) != count or not all(isinstance(item, dict) for item in reply):
        raise RunnerError(f"device {name}: an unexpected answer: no list of {count} results")
    return reply
