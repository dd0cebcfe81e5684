"""Points in an embedded Qdrant (qdrant-edge-py): an index and filters for many points, without a server.

`collection.json` names the model and the shard in use; a rebuild fills another shard and then renames a new
`collection.json` into place. One process at a time.
"""

import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge import disk
from edge.errors import UserError
from edge.errors import reason as said
from edge.inference.jsonfile import read_json
from stages.common.textfile import short
from stages.defects.stores.base import ALL, MOST, Missing, Store, same_model
from stages.defects.stores.extra import needed
from stages.defects.stores.folder import Lock, told, unused
from stages.defects.stores.point import KEYWORDS, Filter, Found, Model, Payload

POINTER, SHARD = "collection.json", "shard-"
EF = 128  # candidates that a search in the index looks at: docs/defect-stores.md shows its recall
INDEX_FROM_KB = 2500  # vectors below are always searched exactly: 10 000 of 64 numbers


class Embedded(Store):
    """The shard that `where`/`name`/collection.json points at."""

    def __init__(self, where: str, name: str, model: Model | None = None):
        self._qdrant = needed("qdrant_edge", "embedded")
        self.folder = Path(where) / name
        self.name = short(self.folder)
        if model is None and not (self.folder / POINTER).exists():
            raise Missing(f"{self.name}: no collection; push one")
        self._lock: Lock | None = Lock(self.folder)
        self._shard: Any = None
        try:
            with self._told():
                self._open(model)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, model: Model | None) -> None:
        try:
            kept = read_json(self.folder / POINTER)
        except FileNotFoundError:
            if model is None or not self._may_create():
                raise UserError(f"{self.name}: holds no collection but other files; choose another name") from None
            self._remove_shards_but(None)
            self._create(model)
            self._point()
            return
        try:
            self.model = same_model(self.name, Model(kept["sha256"], kept["dimension"]), model)
            self._path = self.folder / f"{SHARD}{uuid.UUID(kept['shard'])}"
        except (TypeError, KeyError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{short(self.folder / POINTER)}: damaged; restore it from a backup") from None
        self._remove_shards_but(self._path)
        self._shard = self._qdrant.EdgeShard.load(str(self._path))

    def _may_create(self) -> bool:
        """Whether all that lies there is what an interrupted creation left."""
        return unused(self.folder) or all(path.name.startswith((".", SHARD)) for path in self.folder.iterdir())

    def _create(self, model: Model) -> None:
        q = self._qdrant
        self.model, self._path = model, self.folder / f"{SHARD}{uuid.uuid4()}"
        self._path.mkdir()
        config = q.EdgeConfig(
            vectors=q.EdgeVectorParams(size=model.dimension, distance=q.Distance.Euclid),
            optimizers=q.EdgeOptimizersConfig(indexing_threshold=INDEX_FROM_KB),
            hnsw_config=q.HnswIndexConfig(m=16, ef_construct=100, full_scan_threshold=INDEX_FROM_KB),
        )
        self._shard = q.EdgeShard.create(str(self._path), config)
        schema: dict[str, Any] = {field: q.KeywordIndexParams() for field in KEYWORDS}
        schema |= {"time": q.DatetimeIndexParams(), "corrected": q.BoolIndexParams()}
        for field, params in schema.items():
            self._shard.update(q.UpdateOperation.create_field_index(field, params))

    def _point(self) -> None:
        """Has `collection.json` name this shard: from now on it is the collection."""
        kept = {"sha256": self.model.sha256, "dimension": self.model.dimension}
        kept["shard"] = self._path.name.removeprefix(SHARD)
        disk.write(self.folder / POINTER, (json.dumps(kept, indent=2) + "\n").encode())

    def _remove_shards_but(self, kept: Path | None) -> None:
        """Removes what an interrupted creation or rebuild left."""
        for path in self.folder.glob(f"{SHARD}*"):
            if path != kept:
                shutil.rmtree(path)

    @contextmanager
    def _told(self):
        """What the library says, as one line; it also panics, which is no Exception."""
        try:
            with told(self.folder):
                yield
        except UserError:
            raise
        except BaseException as error:
            if type(error).__name__ != "PanicException" and type(error) is not Exception:
                raise
            raise UserError(f"{self.name}: the embedded Qdrant failed: {said(error)}") from None

    def _upsert(self, ids: list[str], vectors: np.ndarray, payloads: Sequence[Payload]) -> None:
        q = self._qdrant
        rows = zip(ids, vectors.tolist(), payloads, strict=True)
        self._update(q.UpdateOperation.upsert_points([q.Point(*row) for row in rows]))

    def _delete(self, ids: list[str]) -> None:
        self._update(self._qdrant.UpdateOperation.delete_points(ids))

    def _set(self, ids: list[str], fields: Payload) -> None:
        self._update(self._qdrant.UpdateOperation.set_payload(ids, fields))

    def _update(self, operation: Any) -> None:
        with self._told():
            self._shard.update(operation)

    def _query(self, vectors: np.ndarray, k: int, filter: Filter, exact: bool) -> list[list[Found]]:
        q = self._qdrant
        common = {"limit": k, "filter": self._filter(filter), "with_payload": True}
        common["params"] = q.SearchParams(exact=True) if exact else q.SearchParams(hnsw_ef=max(EF, k))
        requests = [q.QueryRequest(query=q.Query.Nearest(vector), **common) for vector in vectors.tolist()]
        with self._told():
            answers = [self._shard.query(request) for request in requests]
        return [[Found(str(one.id), one.score, one.payload) for one in answer] for answer in answers]

    def _payloads(self, ids: list[str]) -> dict[str, Payload]:
        with self._told():
            found = {str(one.id): one.payload for one in self._shard.retrieve(ids, True, False)}
        return {one: found[one] for one in ids if one in found}

    def _vectors(self, ids: list[str]) -> dict[str, np.ndarray]:
        with self._told():
            return {str(one.id): np.asarray(one.vector, np.float32) for one in self._shard.retrieve(ids, False, True)}

    def count(self, filter: Filter = ALL) -> int:
        with self._told():
            return self._shard.count(self._qdrant.CountRequest(exact=True, filter=self._filter(filter)))

    def scroll(self, filter: Filter = ALL) -> Iterator[tuple[list[str], np.ndarray, list[Payload]]]:
        offset, more = None, True
        while more:
            request = self._qdrant.ScrollRequest(
                offset=offset, limit=MOST, filter=self._filter(filter), with_payload=True, with_vector=True
            )
            with self._told():
                found, offset = self._shard.scroll(request)
            more = offset is not None
            if found:
                vectors = np.array([one.vector for one in found], np.float32)
                yield [str(one.id) for one in found], vectors, [one.payload for one in found]

    def _filter(self, filter: Filter) -> Any:
        q = self._qdrant
        must = [q.FieldCondition(key, match=q.MatchAny(list(values))) for key, values in filter.keywords.items()]
        if filter.since is not None or filter.until is not None:
            must.append(q.FieldCondition("time", range=q.RangeDateTime(gte=filter.since, lt=filter.until)))
        if filter.corrected is not None:  # (MatchValue(True) would look for the number 1)
            empty = [q.IsEmptyCondition("corrected")]
            return q.Filter(must=must, must_not=empty) if filter.corrected else q.Filter(must=must + empty)
        return q.Filter(must=must) if must else None

    @contextmanager
    def rebuilt(self, model: Model | None = None):
        fresh = Embedded.__new__(Embedded)
        fresh._qdrant, fresh.folder, fresh.name, fresh._lock = self._qdrant, self.folder, self.name, None
        with self._told():
            fresh._create(model or self.model)
        try:
            yield fresh
            fresh.index()
            with self._told():
                fresh._shard.flush()
                fresh._point()
        except BaseException:
            fresh.close()
            shutil.rmtree(fresh._path, ignore_errors=True)
            raise
        old, old_path = self._shard, self._path
        self.model, self._shard, self._path = fresh.model, fresh._shard, fresh._path
        with self._told():
            old.close()
            shutil.rmtree(old_path)

    def index(self) -> None:
        with self._told():
            self._shard.optimize()

    def close(self) -> None:
        if self._shard is None:
            return
        try:
            with self._told():
                self._shard.close()
        finally:
            self._shard = None
            if self._lock is not None:
                self._lock.release()
