"""A point of a store: the embedding of one labelled defect and what is known of it, checked before it is kept."""

import json
import math
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from edge.defects.catalogue import LONGEST, RESERVED, is_name
from edge.errors import UserError
from stages.common.textfile import short

Payload = dict[str, Any]
KEYWORDS = ("type", "product", "line")  # fields of a payload that are filtered by their values
UNIT = 1e-3  # how far the length of a vector may be from 1
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMESPACE = uuid.UUID("6d1c02e2-4d5a-5f0e-9a55-0d3f3a5c7b11")


@dataclass(frozen=True)
class Model:
    """The model whose embeddings are kept: its file and the length of its vectors."""

    sha256: str
    dimension: int

    def __post_init__(self):
        if not isinstance(self.sha256, str) or not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise UserError(f"{short(self.sha256)!r}: not the sha256 of a model file: 64 small hexadecimal digits")
        if type(self.dimension) is not int or not 1 <= self.dimension <= 65536:
            raise UserError(f"{short(self.dimension)}: not the length of an embedding: must be 1 to 65536")


@dataclass(frozen=True)
class Filter:
    """Which points: of any of these types, of any of these products, of any of these lines, not before `since` and
    before `until` (both RFC 3339), corrected by `label` or not; empty and None: all."""

    types: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    corrected: bool | None = None

    def __post_init__(self):
        for time in (self.since, self.until):
            if time is not None:
                instant(time)

    @property
    def keywords(self) -> dict[str, tuple[str, ...]]:
        """{field of the payload: its allowed values}, without those that allow all."""
        found = dict(zip(KEYWORDS, (self.types, self.products, self.lines), strict=True))
        return {field: values for field, values in found.items() if values}


@dataclass(frozen=True)
class Found:
    """A neighbour: its id, its Euclidean distance to the query, and its payload."""

    id: str
    distance: float
    payload: Payload


def instant(time: str) -> int:
    """Microseconds since 1970 of a time in RFC 3339, which has a zone; UserError for any other text."""
    if isinstance(time, str) and RFC3339.fullmatch(time):
        try:
            return (datetime.fromisoformat(time) - EPOCH) // timedelta(microseconds=1)
        except (ValueError, OverflowError):
            pass
    raise UserError(f"{short(time)!r}: not a time in RFC 3339, such as 2026-05-01T06:00:00+02:00")


def place(payload: Payload) -> tuple:
    """The picture and the box, which tell the points of one model apart."""
    return payload["picture"], *(float(value) for value in payload["box"])


def identifier(model: Model, payload: Payload) -> str:
    """The id of a point, a UUID: the same for the same model, picture and box, so that a repeated push stores once."""
    return str(uuid.uuid5(NAMESPACE, json.dumps([model.sha256, *place(payload)])))


def checked_ids(ids: list[str]) -> list[str]:
    """The ids in the form in which they are kept, each once; UserError for what is no UUID."""
    try:
        return list(dict.fromkeys(str(uuid.UUID(text)) for text in ids))
    except (ValueError, AttributeError, TypeError):
        wrong = next(text for text in ids if not _is_uuid(text))
        raise UserError(f"{short(wrong)!r}: not the id of a point, which `query` shows") from None


def _is_uuid(text: object) -> bool:
    try:
        uuid.UUID(text)  # type: ignore[arg-type]
    except (ValueError, AttributeError, TypeError):
        return False
    return True


def keyword(value: Any, field: str) -> str:
    """The value of a field that is filtered by; UserError unless it is a line of text."""
    if not is_name(value):
        raise UserError(f"{field} {short(value)!r}: must be 1 to {LONGEST} printable characters")
    if field == "type" and value in RESERVED:
        raise UserError(f"type {value!r}: is no type of defect; choose another name")
    return value


def checked(payload: object, where: str) -> Payload:
    """The payload; UserError, which begins with `where`, for a field that is missing or wrong. Further fields, which
    must be JSON, are kept as they are."""
    if not isinstance(payload, dict):
        raise UserError(f"{where}: must be a JSON object with type, picture, box and score")
    if missing := [field for field in ("type", "picture", "box", "score") if field not in payload]:
        raise UserError(f"{where}: {' and '.join(missing)} missing")
    try:
        for field in KEYWORDS:
            if field in payload:
                keyword(payload[field], field)
        if "time" in payload:
            instant(payload["time"])
        picture, box = payload["picture"], payload["box"]
        if not isinstance(picture, str) or not picture or not _encodable(picture):
            raise UserError(f"picture {short(picture)!r}: must be the name of a file, in UTF-8")
        if not isinstance(box, list) or len(box) != 4 or not all(_finite(value) for value in box):
            raise UserError(f"box {short(box)}: must be four numbers: x, y, width, height")
        if not _finite(payload["score"]):
            raise UserError(f"score {short(payload['score'])}: must be a number")
        if payload.get("corrected", True) is not True:
            raise UserError(f"corrected {short(payload['corrected'])}: must be true or absent")
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return payload


def checked_vectors(vectors: np.ndarray, model: Model, what: str) -> np.ndarray:
    """The vectors as float32 [N, D]; UserError, which begins with `what`, for another length or one that isn't 1."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != model.dimension:
        shape = " x ".join(map(str, vectors.shape))
        raise UserError(f"{what}: vectors are {shape}, must be N x {model.dimension}")
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT))  # nan is wrong too
    if len(wrong):
        raise UserError(f"{what}: vector {wrong[0] + 1} has length {lengths[wrong[0]]:.4g}, must be of unit length")
    return vectors


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15 and math.isfinite(value)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
