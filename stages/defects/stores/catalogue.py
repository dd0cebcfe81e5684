"""The files of a catalogue: `vectors.safetensors` (float32 [N, D], of unit length), `points.jsonl` (a payload a line,
in the same order) and `catalogue.json`, which names the model by its sha256 and both files by theirs.

New files go into the folder `pending` first, which appears as a whole; whoever finds it takes what it holds.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edge.errors import UserError
from edge.errors import reason as said
from edge.inference.jsonfile import read_json
from stages.common.textfile import open_regular, reason, short
from stages.defects.stores.folder import sync_folder, write_kept
from stages.defects.stores.point import Model, Payload, checked, checked_vectors

ABOUT, VECTORS, POINTS = "catalogue.json", "vectors.safetensors", "points.jsonl"
PENDING, PART = "pending", ".pending.part"
MODEL, DIMENSION, FILES, TENSOR = "model", "dimensions", "files", "vectors"
ADVICE = "a catalogue is a folder that `defects` writes"


@dataclass
class Catalogue:
    """What the files hold; `about` is all of catalogue.json."""

    model: Model
    vectors: np.ndarray
    payloads: list[Payload]
    about: dict[str, Any] = field(default_factory=dict)


def exists(folder: Path) -> bool:
    return any((place / ABOUT).exists() for place in (folder, folder / PENDING))


def read(folder: Path) -> Catalogue:
    """The catalogue, checked; UserError for whatever is missing, damaged or doesn't fit together."""
    place = folder / PENDING if (folder / PENDING / ABOUT).exists() else folder
    path = place / ABOUT
    try:
        about = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{short(path)}: not found; {ADVICE}") from None
    if not isinstance(about, dict) or not isinstance(about.get(MODEL), str):
        raise UserError(f"{short(path)}: {MODEL}, the sha256 of one, is missing; {ADVICE}")
    content = {name: _content(place / name) for name in (VECTORS, POINTS)}
    wanted = about.get(FILES)
    for name, data in content.items():
        if not isinstance(wanted, dict) or hashlib.sha256(data).hexdigest() != wanted.get(name):
            raise UserError(f"{short(place / name)}: differs from sha256 in {ABOUT}; make the catalogue again")
    vectors = _tensor(place / VECTORS, content[VECTORS])
    try:
        model = Model(about[MODEL], vectors.shape[1])
    except UserError as error:
        raise UserError(f"{short(path)}: {error}") from None
    payloads = _payloads(place / POINTS, content[POINTS])
    if len(payloads) != len(vectors):
        raise UserError(f"{short(folder)}: {len(vectors)} vectors and {len(payloads)} points; make the catalogue again")
    return Catalogue(model, checked_vectors(vectors, model, short(place / VECTORS)), payloads, about)


def read_vectors(path: Path) -> np.ndarray:
    """float32 [N, D] of a safetensors file's tensor `vectors`."""
    return _tensor(path, _content(path))


def write(folder: Path, found: Catalogue) -> None:
    """Puts the three files in place of those that there are: all or none, whatever instant the process dies at."""
    part = folder / PART
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    lines = "".join(json.dumps(payload, ensure_ascii=False) + "\n" for payload in found.payloads)
    content = {VECTORS: save({TENSOR: np.ascontiguousarray(found.vectors)}), POINTS: lines.encode()}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    about = {**found.about, MODEL: found.model.sha256, DIMENSION: found.model.dimension, FILES: digests}
    content[ABOUT] = (json.dumps(about, indent=2, sort_keys=True) + "\n").encode()
    for name, data in content.items():
        write_kept(part / name, data)
    settle(folder)
    os.replace(part, folder / PENDING)  # from here on it is done
    sync_folder(folder)
    settle(folder)


def settle(folder: Path) -> None:
    """Puts what a writer left in `pending` into its places; `catalogue.json` last, which fits the others."""
    pending = folder / PENDING
    if not (pending / ABOUT).exists():
        return
    for name in (VECTORS, POINTS, ABOUT):
        write_kept(folder / name, (pending / name).read_bytes())
    gone = folder / f".{PENDING}.done"
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(pending, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _content(path: Path) -> bytes:
    with open_regular(path, ADVICE) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise UserError(f"{short(path)}: can't be read: {reason(error)}") from None


def _tensor(path: Path, content: bytes) -> np.ndarray:
    try:
        found = load(content).get(TENSOR)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{short(path)}: no safetensors file: {said(error)}") from None
    if found is None or found.dtype != np.float32 or found.ndim != 2:
        raise UserError(f"{short(path)}: must hold the tensor {TENSOR}, float32 [N, D]")
    return found


def _payloads(path: Path, content: bytes) -> list[Payload]:
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            payload = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{short(path)}: line {number}: not valid JSON; make the catalogue again") from None
        found.append(checked(payload, f"{short(path)}: line {number}"))
    return found
