"""The one tensor of a `vectors.safetensors`: a header in JSON, then the numbers; nothing in it is ever executed.

The format is that of github.com/huggingface/safetensors; a device needs no library for it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edge.arrays import Floats
from edge.errors import UserError
from edge.inference.jsonfile import parsed

NAME = "vectors"
MOST_HEADER = 1 << 16
MOST_BYTES = 1 << 32  # 16 million vectors of 64 numbers: a choice


def write(path: Path, vectors: Floats) -> None:
    """Writes float32 [N, D]."""
    data = np.ascontiguousarray(vectors, "<f4")
    entry = {"dtype": "F32", "shape": list(data.shape), "data_offsets": [0, data.nbytes]}
    header = json.dumps({NAME: entry}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data.tobytes())


def read(path: Path, content: bytes) -> Floats:
    """The vectors, float32 [N, D], that the content of the file at `path` holds; UserError for any other content."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MOST_HEADER, len(content) - 8):
        raise _wrong(path, f"has a header of {length} bytes, and {len(content)} in all")
    header, data = parsed(path, content[8 : 8 + length]), content[8 + length :]
    entry = header.get(NAME) if isinstance(header, dict) else None
    shape = entry.get("shape") if isinstance(entry, dict) else None
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and 0 <= n < 1 << 31 for n in shape)
    if not isinstance(entry, dict) or not isinstance(shape, list) or not whole or entry.get("dtype") != "F32":
        raise _wrong(path, f"holds no float32 tensor {NAME!r} of two axes")
    if entry.get("data_offsets") != [0, len(data)] or len(data) != 4 * shape[0] * shape[1]:
        raise _wrong(path, f"holds {len(data)} bytes of numbers, which are not {shape[0]} x {shape[1]} float32")
    vectors: Floats = np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise _wrong(path, "holds nan or infinity")
    return vectors


def _wrong(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; make the catalogue again")
