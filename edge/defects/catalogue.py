"""A catalogue of defects: labelled examples as vectors, and what an unknown one is by those that lie nearest.

A folder with `catalogue.json` (of which model, how a vector is made, how many neighbours vote, from where on a defect
is unknown; the sha256 of the other two files), `vectors.safetensors`, `points.jsonl` (one object a line, in the same
order), thumbnails, each named by its point, and the model itself, so that examples can be added.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.arrays import Floats
from edge.defects import files, region
from edge.defects.nearest import nearest
from edge.defects.region import Box
from edge.errors import UserError
from edge.inference.fields import Fields
from edge.inference.jsonfile import DEEPEST, depth

if TYPE_CHECKING:
    from edge.inference.detector import Prediction
    from edge.inference.modelinfo import ModelInfo

FORMAT = 1
UNKNOWN = "unknown"
RESERVED = (UNKNOWN, "good")  # are no types of defects
LONGEST = 200  # characters of a type, a product, a line
NEEDED, OPTIONAL = ("type", "picture", "box", "score"), ("product", "line", "time", "thumbnail")
NEAR = 1e-3  # added to a distance before it is divided by: an example itself does not count infinitely
SHOWN = 3  # of the nearest examples


@dataclass(frozen=True)
class Rules:
    """How a vector is made of a prediction, and a type told from its neighbours.

    model: the sha256 of the model whose embedding it is, of which the first `dimensions` count. pooling: a key of
    region.POOLINGS. k: the neighbours that vote. limit: the distance of the nearest one beyond which a defect is
    unknown.
    """

    model: str
    dimensions: int
    pooling: str
    k: int
    limit: float


@dataclass(frozen=True)
class Point:
    """A labelled example. time: RFC 3339. thumbnail: the name of its file. more: further fields, which are kept as they
    are, such as `corrected` of a type that somebody changed in a store."""

    type: str
    picture: str
    box: Box
    score: float
    product: str | None = None
    line: str | None = None
    time: str | None = None
    thumbnail: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        known = {key: getattr(self, key) for key in (*NEEDED, *OPTIONAL)}
        return {**self.more, **{key: value for key, value in known.items() if value is not None}}


@dataclass(frozen=True)
class Neighbour:
    index: int
    type: str
    picture: str
    distance: float


@dataclass(frozen=True)
class TypeVerdict:
    """What kind of defect it is. type: "unknown" where no example is near enough. votes: the share of each type among
    the nearest examples, the nearer the more, largest first. distance: of the nearest one, 0 to 2. box: where."""

    type: str
    votes: dict[str, float]
    distance: float
    nearest: tuple[Neighbour, ...]
    box: Box

    def to_json(self) -> dict[str, Any]:
        near = [{"type": n.type, "picture": n.picture, "distance": round(n.distance, 4)} for n in self.nearest]
        votes = {name: round(share, 4) for name, share in self.votes.items()}
        return {"type": self.type, "votes": votes, "distance": round(self.distance, 4), "nearest": near}


def votes(types: list[str], distances: list[float]) -> dict[str, float]:
    """The share of each type, weighted by the inverse of the distance, largest first, of equals the nearest."""
    found: dict[str, float] = {}
    for name, distance in zip(types, distances):  # noqa: B905 (strict needs Python 3.10)
        found[name] = found.get(name, 0.0) + 1 / (distance + NEAR)
    total = sum(found.values())
    return {name: share / total for name, share in sorted(found.items(), key=lambda pair: -pair[1])}


@dataclass(frozen=True)
class Catalogue:
    """The examples and rules of a catalogue folder; `open_catalogue` reads one."""

    folder: Path
    rules: Rules
    vectors: Floats = field(repr=False)
    points: tuple[Point, ...] = field(repr=False)

    def vector(self, prediction: Prediction, weights: Floats | None = None) -> tuple[Floats, Box]:
        """The vector of what a prediction takes for anomalous, or of what has the `weights` [H, W] in the picture; and
        its box."""
        embedding = prediction.embedding
        if embedding is None:
            raise no_embedding(prediction.info)
        if weights is None:
            weights = region.found(prediction.raw_map, self.rules.pooling)
        return region.pooled(embedding, weights, self.rules.dimensions), region.box(weights, prediction.size)

    def type_of(self, prediction: Prediction, weights: Floats | None = None) -> TypeVerdict:
        """What kind of defect a prediction shows; `weights` [H, W] of the picture where somebody marked it."""
        vector, box = self.vector(prediction, weights)
        indices, distances = nearest(self.vectors, vector[None], self.rules.k)
        near = tuple(
            Neighbour(int(i), self.points[i].type, self.points[i].picture, float(d))
            for i, d in zip(indices[0], distances[0])  # noqa: B905
        )
        shares = votes([n.type for n in near], [n.distance for n in near])
        known = near[0].distance <= self.rules.limit
        return TypeVerdict(next(iter(shares)) if known else UNKNOWN, shares, near[0].distance, near[:SHOWN], box)

    def check(self, info: ModelInfo) -> None:
        """UserError unless the catalogue was made with this model."""
        if info.sha256 != self.rules.model:
            raise UserError(
                f"{self.folder}: made with the model {self.rules.model[:12]}, but {info.folder} is {info.sha256[:12]}; "
                "make the catalogue again with this model"
            )
        output = info.output("embedding")
        if output is None:
            raise no_embedding(info)
        if output.channels < self.rules.dimensions:
            raise UserError(
                f"{self.folder / files.HEAD}: dimensions = {self.rules.dimensions}, but the embedding of {info.folder} "
                f"has {output.channels}; make the catalogue again"
            )


def no_embedding(info: ModelInfo) -> UserError:
    return UserError(
        f"{info.folder}: has no output of meaning 'embedding', from which types are told; export it with "
        "compile.embedding: 64"
    )


def open_catalogue(folder: str | Path, info: ModelInfo | None = None) -> Catalogue:
    """The catalogue in a folder, checked line by line; UserError where it is none, is damaged, or was made with another
    model than `info`."""
    place = Path(folder)
    whole = files.whole(place)
    rules = _rules(place / files.HEAD, whole.head)
    lines = [text for text in whole.points.decode("utf-8", "surrogateescape").split("\n") if text.strip()]
    points = tuple(_point(place / files.POINTS, number, text) for number, text in enumerate(lines, 1))
    if len(points) != len(whole.vectors) or not points:
        raise UserError(
            f"{place}: {len(points)} examples in {files.POINTS} but {len(whole.vectors)} vectors; "
            "make the catalogue again"
        )
    if whole.vectors.shape[1] != rules.dimensions:
        raise UserError(
            f"{place / files.VECTORS}: {whole.vectors.shape[1]} dimensions, but {files.HEAD} says {rules.dimensions}; "
            "make the catalogue again"
        )
    catalogue = Catalogue(place, rules, whole.vectors, points)
    if info is not None:
        catalogue.check(info)
    return catalogue


def write_catalogue(folder: Path, rules: Rules, vectors: Floats, points: Sequence[Point]) -> None:
    """Writes the three files into a folder that holds none yet."""
    lines = [json.dumps(point.to_json(), sort_keys=True) for point in points]
    files.write(folder, {"format": FORMAT, **asdict(rules)}, vectors, lines)


def _rules(path: Path, raw: Any) -> Rules:
    def parse(at: Fields) -> Rules:
        at.choice("format", FORMAT)
        at.object("files", Fields.mapping)
        return Rules(
            model=at.text("model"),
            dimensions=at.whole("dimensions", 1, 1 << 16),
            pooling=at.choice("pooling", *region.POOLINGS),
            k=at.whole("k", 1, 1000),
            limit=at.number("limit", 0),
        )

    return Fields(path, raw).parsed(parse)


def _point(path: Path, number: int, text: str) -> Point:
    try:
        if depth(text) > DEEPEST:
            raise ValueError
        raw = json.loads(text)
        kind, picture, score = raw["type"], raw["picture"], float(raw["score"])
        x, y, w, h = (int(side) for side in raw["box"])
        known = {key: raw[key] for key in OPTIONAL if raw.get(key) is not None}
        more = {key: value for key, value in raw.items() if key not in (*NEEDED, *OPTIONAL)}
    except (ValueError, TypeError, KeyError, OverflowError):
        raise UserError(
            f"{path}: line {number} is no example: an object with type, picture, box [x, y, width, height] and score; "
            "make the catalogue again"
        ) from None
    wrong = [key for key, value in {"picture": picture, **known}.items() if not isinstance(value, str)]
    if wrong or not math.isfinite(score):
        raise UserError(f"{path}: line {number}: {(wrong or ['score'])[0]} can't be used; make the catalogue again")
    check_type(kind, f"{path}: line {number}")
    return Point(kind, picture, (x, y, w, h), score, **known, more=more)


def is_name(value: Any) -> bool:
    """Whether a type, a product or a line may be called so."""
    return isinstance(value, str) and bool(value.strip()) and value.isprintable() and len(value) <= LONGEST


def check_type(kind: Any, where: str) -> None:
    """UserError for what can't be the name of a type."""
    if not is_name(kind):
        raise UserError(f"{where}: type = {kind!r:.80}: must be 1 to {LONGEST} printable characters")
    if kind in RESERVED:
        raise UserError(f"{where}: type = {kind!r}: is no type of defect; choose another name")
