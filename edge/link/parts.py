"""Clips are sent in parts, each a message of its own: small enough for brokers, memory and a line that breaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge.errors import UserError
from edge.inference.fields import Fields
from edge.inference.jsonfile import parsed

PART = 48_000  # bytes: sealed and in base64 below the 64 KiB that some libraries take of a JWE
PART_TYPE = "vnd.edge-vision.part"  # "cty": a line of JSON {"name", "bytes", "part", "parts"}, then the bytes
MOST_PARTS = 100_000


def parts(path: Path) -> int:
    """How many parts a file has; 0 where there is none."""
    try:
        return max(1, -(-path.stat().st_size // PART))
    except OSError:
        return 0


def part(path: Path, number: int) -> bytes | None:
    """The plaintext of one part; None where the file is gone or ends before it."""
    try:
        with open(path, "rb") as stream:
            size = path.stat().st_size
            stream.seek(number * PART)
            data = stream.read(PART)
    except OSError:
        return None
    if number >= max(1, -(-size // PART)):
        return None
    head = {"name": path.name, "bytes": size, "part": number, "parts": max(1, -(-size // PART))}
    return json.dumps(head).encode() + b"\n" + data


def read_part(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The head of a part, checked, and its bytes; UserError for what is none."""
    line, _, rest = data.partition(b"\n")
    fields = Fields(Path("part"), parsed(Path("part"), line))
    name, size = fields.text("name"), fields.whole("bytes", 0, PART * MOST_PARTS)
    count = fields.whole("parts", 1, MOST_PARTS)
    number = fields.whole("part", 0, count - 1)
    if "/" in name or "\0" in name or name.startswith("."):
        raise fields.error("name", "the name of a file, without a folder")
    if count != max(1, -(-size // PART)) or len(rest) != min(PART, size - number * PART):
        raise UserError(f"part: {len(rest)} bytes in part {number} of {count}, {size} in all: they don't fit")
    return {"name": name, "bytes": size, "part": number, "parts": count}, rest
