"""The files of a catalogue (edge/defects/files.py) as points of a store: vectors of unit length, and payloads."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.defects import files, vectors
from edge.errors import UserError
from edge.inference.jsonfile import DEEPEST, depth
from stages.common.textfile import short
from stages.defects.stores.point import Model, Payload, checked, checked_vectors

MODEL, DIMENSION = "model", "dimensions"
ADVICE = "a catalogue is a folder that `defects` writes"


@dataclass
class Catalogue:
    """What the files hold; `about` is all of catalogue.json."""

    model: Model
    vectors: np.ndarray
    payloads: list[Payload]
    about: dict[str, Any] = field(default_factory=dict)


def exists(folder: Path) -> bool:
    return any((place / files.HEAD).exists() for place in (folder, folder / files.PENDING))


def read(folder: Path) -> Catalogue:
    """The catalogue, checked; UserError for whatever is missing, damaged or doesn't fit together."""
    found = files.whole(folder)
    about = found.head
    if not isinstance(about.get(MODEL), str):
        raise UserError(f"{short(folder / files.HEAD)}: {MODEL}, the sha256 of one, is missing; {ADVICE}")
    try:
        model = Model(about[MODEL], found.vectors.shape[1])
    except UserError as error:
        raise UserError(f"{short(folder / files.HEAD)}: {error}") from None
    payloads = _payloads(folder / files.POINTS, found.points)
    if len(payloads) != len(found.vectors):
        raise UserError(
            f"{short(folder)}: {len(found.vectors)} vectors and {len(payloads)} points; make the catalogue again"
        )
    return Catalogue(model, checked_vectors(found.vectors, model, short(folder / files.VECTORS)), payloads, about)


def read_vectors(path: Path) -> np.ndarray:
    """float32 [N, D] of a safetensors file's tensor `vectors`."""
    try:
        return vectors.read(path, files.content(path))
    except FileNotFoundError:
        raise UserError(f"{short(path)}: not found; {ADVICE}") from None


def write(folder: Path, found: Catalogue) -> None:
    """Puts the three files in place of those that there are: all or none, whatever instant the process dies at."""
    about = {**found.about, MODEL: found.model.sha256, DIMENSION: found.model.dimension}
    lines = [json.dumps(payload, ensure_ascii=False) for payload in found.payloads]
    files.replace(folder, lambda fresh: files.write(fresh, about, found.vectors, lines))


def _payloads(path: Path, content: bytes) -> list[Payload]:
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        where, text = f"{short(path)}: line {number}", line.decode(errors="replace")
        if depth(text) > DEEPEST:
            raise UserError(f"{where}: nested more than {DEEPEST} deep, which no device reads")
        try:
            payload = json.loads(line)
        except ValueError:
            raise UserError(f"{where}: not valid JSON; make the catalogue again") from None
        found.append(checked(payload, where))
    return found
