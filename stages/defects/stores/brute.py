"""Points in a catalogue's own files, searched by brute force: exact, nothing to install, enough for some 10 000 points.

What changes is appended to a journal first, so that neither kill -9 nor a power cut loses what was acknowledged;
`close` writes the files anew. One process at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge.defects import files
from edge.defects.nearest import nearest
from edge.errors import UserError
from stages.common.textfile import short
from stages.defects.stores import catalogue
from stages.defects.stores.base import ALL, Missing, Store, batches, same_model
from stages.defects.stores.catalogue import Catalogue
from stages.defects.stores.folder import Lock, told, unused
from stages.defects.stores.journal import Journal
from stages.defects.stores.point import Filter, Found, Model, Payload, identifier, instant

NEVER = np.iinfo(np.int64).min  # the time of a point that has none


class Brute(Store):
    """The catalogue in the folder `where`/`name`."""

    def __init__(self, where: str, name: str, model: Model | None = None):
        self.folder = Path(where) / name
        self.name = short(self.folder)
        if model is None and not catalogue.exists(self.folder):
            raise Missing(f"{self.name}: no catalogue; push one")
        self._lock = Lock(self.folder)
        try:
            with told(self.folder):
                self._open(model)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, model: Model | None) -> None:
        files.settle(self.folder)
        if not catalogue.exists(self.folder):
            if model is None or not unused(self.folder):
                raise UserError(f"{self.name}: holds no catalogue but other files; choose another name")
            empty = np.empty((0, model.dimension), np.float32)
            catalogue.write(self.folder, Catalogue(model, empty, []))
        found = catalogue.read(self.folder)
        self.model = same_model(self.name, found.model, model)
        self._about = found.about
        self._journal = Journal(self.folder)
        self._points = Points(self.model.dimension)
        self._apply(upsert=found.payloads, vectors=found.vectors)  # (a device may add a picture twice: the last counts)
        for change in self._journal.changes():
            self._apply(**change)

    def _apply(self, upsert=None, vectors=None, delete=None, set=None, fields=None) -> None:
        """A change, here or from the journal; repeated, it changes nothing more."""
        if upsert is not None:
            self._points.put([identifier(self.model, payload) for payload in upsert], vectors, upsert)
        elif delete is not None:
            self._points.remove(delete)
        else:
            self._points.change(set, fields)

    def _upsert(self, ids: list[str], vectors: np.ndarray, payloads: Sequence[Payload]) -> None:
        self._record(upsert=list(payloads), vectors=vectors)

    def _delete(self, ids: list[str]) -> None:
        self._record(delete=ids)

    def _set(self, ids: list[str], fields: Payload) -> None:
        self._record(set=ids, fields=fields)

    def _record(self, **change) -> None:
        with told(self.folder):
            self._journal.append(**change)
        self._apply(**change)

    def _query(self, vectors: np.ndarray, k: int, filter: Filter, exact: bool) -> list[list[Found]]:
        points = self._points
        rows = points.allowed(filter)
        indices, distances = nearest(points.vectors if rows is None else points.vectors[rows], vectors, k)
        if rows is not None:
            indices = rows[indices]
        return [
            [Found(points.ids[i], float(d), points.payloads[i]) for i, d in zip(*pair, strict=True)]
            for pair in zip(indices.tolist(), distances.tolist(), strict=True)
        ]

    def _payloads(self, ids: list[str]) -> dict[str, Payload]:
        return {one: self._points.payloads[self._points.rows[one]] for one in ids if one in self._points.rows}

    def _vectors(self, ids: list[str]) -> dict[str, np.ndarray]:
        return {one: self._points.vectors[self._points.rows[one]] for one in ids if one in self._points.rows}

    def count(self, filter: Filter = ALL) -> int:
        rows = self._points.allowed(filter)
        return len(self._points.ids) if rows is None else len(rows)

    def scroll(self, filter: Filter = ALL) -> Iterator[tuple[list[str], np.ndarray, list[Payload]]]:
        points, rows = self._points, self._points.allowed(filter)
        rows = np.arange(len(points.ids)) if rows is None else rows
        for part in batches(len(rows), self.model.dimension):
            chosen = rows[part]
            yield [points.ids[i] for i in chosen], points.vectors[chosen], [points.payloads[i] for i in chosen]

    @contextmanager
    def rebuilt(self, model: Model | None = None):
        fresh = _Fresh(self.name, model or self.model)
        yield fresh
        with told(self.folder):
            if self._journal.size:  # its changes are of what is replaced
                self._save(self.model, self._points)
            self._save(fresh.model, fresh._points)
        self.model, self._points = fresh.model, fresh._points

    def describe(self, about: dict) -> None:
        self._about = about
        with told(self.folder):
            self._save(self.model, self._points)

    def index(self) -> None:
        """There is none."""

    def close(self) -> None:
        if self._lock.held:
            try:
                if self._journal.size:
                    with told(self.folder):
                        self._save(self.model, self._points)
            finally:
                self._journal.close()
                self._lock.release()

    def _save(self, model: Model, points: "Points") -> None:
        catalogue.write(self.folder, Catalogue(model, points.vectors, points.payloads, self._about))
        self._journal.clear()


class _Fresh(Brute):
    """A store in memory alone, to be filled."""

    def __init__(self, name: str, model: Model):
        self.name, self.model = name, model
        self._points = Points(model.dimension)

    def _record(self, **change) -> None:
        self._apply(**change)

    def close(self) -> None:
        """Nothing is held."""


class Points:
    """Vectors in one array that grows, payloads beside it, and columns of the fields that are filtered by."""

    def __init__(self, dimension: int):
        self.ids: list[str] = []
        self.rows: dict[str, int] = {}
        self.payloads: list[Payload] = []
        self._room = np.empty((0, dimension), np.float32)
        self._columns: dict[str, np.ndarray] = {}
        self._codes: dict[str, dict[str, int]] = {}

    @property
    def vectors(self) -> np.ndarray:
        """float32 [N, D]"""
        return self._room[: len(self.ids)]

    def put(self, ids: list[str], vectors: np.ndarray, payloads: Sequence[Payload]) -> None:
        self._columns.clear()
        fresh = [one for one in dict.fromkeys(ids) if one not in self.rows]
        wanted = len(self.ids) + len(fresh)
        if wanted > len(self._room):
            room = np.empty((max(wanted, 2 * len(self._room)), vectors.shape[1]), np.float32)
            room[: len(self.ids)] = self.vectors
            self._room = room
        for one in fresh:
            self.rows[one] = len(self.ids)
            self.ids.append(one)
            self.payloads.append({})
        for one, vector, payload in zip(ids, vectors, payloads, strict=True):
            self._room[self.rows[one]] = vector
            self.payloads[self.rows[one]] = payload

    def remove(self, ids: Sequence[str]) -> None:
        self._columns.clear()
        gone = {self.rows[one] for one in ids if one in self.rows}
        kept = [row for row in range(len(self.ids)) if row not in gone]
        self._room = self.vectors[kept]
        self.ids, self.payloads = [self.ids[row] for row in kept], [self.payloads[row] for row in kept]
        self.rows = {one: row for row, one in enumerate(self.ids)}

    def change(self, ids: Sequence[str], fields: Payload) -> None:
        self._columns.clear()
        for row in (self.rows[one] for one in ids if one in self.rows):
            self.payloads[row] = self.payloads[row] | fields

    def allowed(self, filter: Filter) -> np.ndarray | None:
        """The rows that the filter lets through, ascending; None: all."""
        if filter == ALL:
            return None
        mask = np.ones(len(self.ids), bool)
        for field, values in filter.keywords.items():
            codes = self._codes.setdefault(field, {})
            column = self._column(field, partial(_code, codes))
            mask &= np.isin(column, [codes.get(value, -1) for value in values])
        if filter.since is not None or filter.until is not None:
            times = self._column("time", lambda value: NEVER if value is None else instant(value))
            mask &= times != NEVER
            if filter.since is not None:
                mask &= times >= instant(filter.since)
            if filter.until is not None:
                mask &= times < instant(filter.until)
        if filter.corrected is not None:
            mask &= self._column("corrected", bool) == filter.corrected
        return np.flatnonzero(mask)

    def _column(self, field: str, number: Callable[[Any], int]) -> np.ndarray:
        """int64 [N]: a field of all payloads, made when it is asked for and kept until they change."""
        if field not in self._columns:
            found = (number(payload.get(field)) for payload in self.payloads)
            self._columns[field] = np.fromiter(found, np.int64, len(self.payloads))
        return self._columns[field]


def _code(codes: dict[str, int], value: str) -> int:
    return codes.setdefault(value, len(codes))
