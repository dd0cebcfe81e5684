"""What every store of labelled defects can do; `stages.defects.stores.table` knows which there are."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np

from edge.errors import UserError
from stages.common.textfile import short
from stages.defects.stores.point import (
    Filter,
    Found,
    Model,
    Payload,
    checked,
    checked_ids,
    checked_vectors,
    identifier,
    keyword,
    place,
)

FLOATS = 1 << 18  # of the vectors in one batch: some 5 MB of JSON, of which Qdrant takes 32 MB
MOST = 1000  # points in one batch
MOST_NEIGHBOURS = 10_000
ALL = Filter()


class Missing(UserError):
    """There is no such collection, and no model to make one for."""


class Store(ABC):
    """One collection of points of one model, open. What `upsert`, `label` and `delete` returned from survives kill -9.

    A store checks what it is given here; a kind keeps points under ids that are UUIDs.
    """

    model: Model
    name: str  # how a message calls it

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def upsert(self, vectors: np.ndarray, payloads: Sequence[Payload]) -> list[str]:
        """Keeps `vectors` [N, D] of unit length with their payloads, in batches; returns their ids. A point of the same
        picture and box is replaced."""
        vectors = checked_vectors(vectors, self.model, self.name)
        if len(vectors) != len(payloads):
            raise UserError(f"{self.name}: {len(vectors)} vectors and {len(payloads)} payloads, must be as many")
        for number, payload in enumerate(payloads, 1):
            checked(payload, f"{self.name}: point {number}")
        ids = [identifier(self.model, payload) for payload in payloads]
        for rows in batches(len(ids), self.model.dimension):
            self._upsert(ids[rows], vectors[rows], payloads[rows])
        return ids

    def query(self, vectors: np.ndarray, k: int, filter: Filter = ALL, exact: bool = True) -> list[list[Found]]:
        """The `k` points nearest to each of `vectors` [Q, D] among those that the filter lets through, nearest first
        (equal distances by id). `exact=False` uses the store's index, where it has one, which may miss some."""
        if not 1 <= k <= MOST_NEIGHBOURS:
            raise UserError(f"{k} neighbours: must be 1 to {MOST_NEIGHBOURS}")
        vectors = checked_vectors(vectors, self.model, "query")
        found = self._query(vectors, k, filter, exact) if len(vectors) else []
        return [sorted(neighbours, key=lambda one: (one.distance, one.id)) for neighbours in found]

    def delete(self, ids: Sequence[str]) -> int:
        """Forgets points; returns how many there were of these."""
        ids = list(self._payloads(checked_ids(list(ids))))
        for rows in batches(len(ids), 1):
            self._delete(ids[rows])
        return len(ids)

    def label(self, ids: Sequence[str], type: str) -> int:
        """Changes the type of points, and marks them as corrected, which a later push respects; returns how many there
        were of these."""
        keyword(type, "type")
        ids = list(self._payloads(checked_ids(list(ids))))
        for rows in batches(len(ids), 1):
            self._set(ids[rows], {"type": type, "corrected": True})
        return len(ids)

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """float32 [N, D]: the vectors of these points, in their order; UserError for an id that is unknown."""
        ids = checked_ids(list(ids))
        found = self._vectors(ids)
        for one in ids:
            if one not in found:
                raise UserError(f"{self.name}: no point {short(one)}")
        return np.array([found[one] for one in ids], np.float32).reshape(len(ids), self.model.dimension)

    def corrections(self) -> dict[tuple, str]:
        """{`place`: type} of the points whose type `label` changed."""
        found = self.scroll(Filter(corrected=True))
        return {place(payload): payload["type"] for _, _, payloads in found for payload in payloads}

    def describe(self, about: dict) -> None:  # noqa: B027
        """Takes over what else a catalogue says, such as its distance limit, where the store is a catalogue itself."""

    @abstractmethod
    def count(self, filter: Filter = ALL) -> int:
        """How many points the filter lets through."""

    @abstractmethod
    def scroll(self, filter: Filter = ALL) -> Iterator[tuple[list[str], np.ndarray, list[Payload]]]:
        """All points that the filter lets through, in batches of ids, vectors [N, D] and payloads."""

    @abstractmethod
    def rebuilt(self, model: Model | None = None) -> AbstractContextManager["Store"]:
        """An empty store to be filled, of the same model or a new one, which takes the place of what is kept here, at
        once and as a whole, when the block ends without an error. Until then queries see what was there."""

    @abstractmethod
    def index(self) -> None:
        """Builds what makes inexact queries fast; nothing where there is no such thing or the server does it itself."""

    @abstractmethod
    def close(self) -> None:
        """Ends its use; a second time does nothing."""

    @abstractmethod
    def _upsert(self, ids: list[str], vectors: np.ndarray, payloads: Sequence[Payload]) -> None: ...

    @abstractmethod
    def _query(self, vectors: np.ndarray, k: int, filter: Filter, exact: bool) -> list[list[Found]]: ...

    @abstractmethod
    def _payloads(self, ids: list[str]) -> dict[str, Payload]:
        """The payloads of those that are there, in the order of `ids`."""

    @abstractmethod
    def _vectors(self, ids: list[str]) -> dict[str, np.ndarray]:
        """The vectors of those that are there."""

    @abstractmethod
    def _delete(self, ids: list[str]) -> None: ...

    @abstractmethod
    def _set(self, ids: list[str], fields: Payload) -> None:
        """Changes these fields of the payloads of points, all of which are there."""


def batches(count: int, dimension: int) -> Iterator[slice]:
    """Slices of at most MOST rows that hold at most FLOATS numbers."""
    step = max(1, min(MOST, FLOATS // dimension))
    for start in range(0, count, step):
        yield slice(start, start + step)


def same_model(name: str, kept: Model, wanted: Model | None) -> Model:
    """The model of a collection that is there; UserError when another one's vectors are wanted."""
    if wanted is None or kept == wanted:
        return kept
    if kept.sha256 != wanted.sha256:
        raise UserError(
            f"{name}: holds embeddings of the model {kept.sha256[:12]}…, not of {wanted.sha256[:12]}…, and these can't "
            "be compared: use another name, or push --rebuild to replace them"
        )
    raise UserError(f"{name}: holds vectors of {kept.dimension} numbers, not of {wanted.dimension}; use another name")
