"""Points on a Qdrant server, for many writers and millions of points; the key comes from QDRANT_API_KEY, the
certificate of an authority of one's own from QDRANT_CA.

A collection's name is an alias of the collection that holds the points: a rebuild fills another and swaps the alias.
"""

import ipaddress
import logging
import os
import ssl
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from edge.address import masked
from edge.errors import UserError
from edge.errors import reason as said
from stages.common.textfile import reason, short
from stages.defects.stores.base import ALL, MOST, Missing, Store, batches, same_model
from stages.defects.stores.extra import needed
from stages.defects.stores.point import KEYWORDS, Filter, Found, Model, Payload

PORT, SECONDS = 6333, 60
EF = 128  # candidates that a search in the index looks at
OVERSAMPLING = 2.0  # times k quantized neighbours are compared again with their float32 vectors
HELP = "docs/defect-stores.md says how to start a server"


def connect(url: str) -> Any:
    """A client of the server at `url`; nothing is sent yet. UserError for what is no address, and for a key that would
    travel unencrypted."""
    qdrant, shown = needed("qdrant_client", "server"), short(masked(url))
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise UserError(f"QDRANT_URL {shown!r}: must be like https://qdrant.example:6333; {HELP}")
    if parts.username is not None or parts.password is not None:
        raise UserError(f"QDRANT_URL {shown}: must hold no user or password; set QDRANT_API_KEY")
    key, authority = os.environ.get("QDRANT_API_KEY") or None, os.environ.get("QDRANT_CA") or None
    if key and not (key.isascii() and key.isprintable()):
        raise UserError("QDRANT_API_KEY: must be printable ASCII without line breaks")
    if key and parts.scheme == "http" and not _here(host):
        raise UserError(f"QDRANT_URL {shown}: QDRANT_API_KEY would travel unencrypted; use https://")
    more: dict[str, Any] = {"trust_env": False} if _here(host) else {}
    if authority:
        try:
            more["verify"] = ssl.create_default_context(cafile=authority)
        except OSError as error:
            raise UserError(f"QDRANT_CA {short(authority)}: can't be used: {reason(error)}; it must be PEM") from None
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else every request is a line
    address = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}{parts.path.rstrip('/')}"
    options = {"api_key": key, "timeout": SECONDS, "check_compatibility": False, **more}
    try:
        return qdrant.QdrantClient(url=address, port=port, **options)
    except Exception as error:
        raise UserError(f"QDRANT_URL {shown}: {said(error)}; {HELP}") from None


def _here(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class Server(Store):
    """The collection that the alias `name` leads to on the server `where`."""

    def __init__(self, where: str, name: str, model: Model | None = None):
        self._url, self._alias = where, name
        self.name = f"{short(masked(where))} {name}"
        self._client: Any = connect(where)
        self._models = needed("qdrant_client", "server").models
        try:
            with self._told():
                self._open(model)
        except BaseException:
            self.close()
            raise

    def _open(self, model: Model | None) -> None:
        self._collection = self._behind_alias()
        if self._collection is not None:
            self.model = same_model(self.name, self._model_of(self._collection), model)
        elif self._client.collection_exists(self._alias):
            raise UserError(f"{self.name}: is a collection, not the alias of one; choose another name")
        elif model is None:
            raise Missing(f"{self.name}: no collection; push one")
        else:
            self._create(model)
            self._swap(None)

    def _behind_alias(self) -> str | None:
        aliases = self._client.get_aliases().aliases
        return next((one.collection_name for one in aliases if one.alias_name == self._alias), None)

    def _model_of(self, collection: str) -> Model:
        about = self._client.get_collection(collection).config.metadata or {}
        try:
            return Model(about["sha256"], about["dimension"])
        except KeyError:
            raise UserError(f"{self.name}: its collection names no model; choose another name") from None

    def _create(self, model: Model) -> None:
        m = self._models
        self.model, self._collection = model, f"{self._alias}-{uuid.uuid4().hex}"
        quantized = m.ScalarQuantizationConfig(type=m.ScalarType.INT8, quantile=0.99, always_ram=True)
        self._client.create_collection(
            self._collection,
            vectors_config=m.VectorParams(size=model.dimension, distance=m.Distance.EUCLID, on_disk=True),
            quantization_config=m.ScalarQuantization(scalar=quantized),
            metadata={"sha256": model.sha256, "dimension": model.dimension},
        )
        if not self._client.get_collection(self._collection).config.metadata:
            self._client.delete_collection(self._collection)
            raise UserError(f"{self.name}: the server keeps no metadata of collections; use a newer one")
        kinds = m.PayloadSchemaType
        schema = dict.fromkeys(KEYWORDS, kinds.KEYWORD) | {"time": kinds.DATETIME, "corrected": kinds.BOOL}
        for field, kind in schema.items():
            self._client.create_payload_index(self._collection, field, kind, wait=True)

    def _swap(self, old: str | None) -> None:
        """Has the alias lead to this collection, in one step."""
        m = self._models
        made = m.CreateAlias(collection_name=self._collection, alias_name=self._alias)
        steps: list[Any] = [m.CreateAliasOperation(create_alias=made)]
        if old is not None:
            steps.insert(0, m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name=self._alias)))
        self._client.update_collection_aliases(change_aliases_operations=steps)

    @contextmanager
    def _told(self):
        """What the server and the line to it say, as one line. Repeating a push is safe."""
        errors = needed("qdrant_client", "server").http.exceptions
        try:
            yield
        except UserError:
            raise
        except errors.UnexpectedResponse as error:
            if error.status_code in (401, 403):
                raise UserError(f"{self.name}: the server refused QDRANT_API_KEY ({error.status_code})") from None
            text = error.content.decode(errors="replace") or error.reason_phrase
            raise UserError(f"{self.name}: answer {error.status_code}: {short(masked(text), 200)}") from None
        except errors.ResponseHandlingException as error:
            why = masked(said(error.source if isinstance(error.source, Exception) else error))
            raise UserError(f"{self.name}: can't be reached: {why}; {HELP}") from None
        except (errors.ApiException, OSError, ValueError) as error:
            raise UserError(f"{self.name}: {masked(said(error))}") from None

    def _upsert(self, ids: list[str], vectors: np.ndarray, payloads: Sequence[Payload]) -> None:
        batch = self._models.Batch(ids=ids, vectors=vectors.tolist(), payloads=list(payloads))
        with self._told():
            self._client.upsert(self._collection, batch, wait=True)

    def _delete(self, ids: list[str]) -> None:
        with self._told():
            self._client.delete(self._collection, self._models.PointIdsList(points=ids), wait=True)

    def _set(self, ids: list[str], fields: Payload) -> None:
        with self._told():
            self._client.set_payload(self._collection, fields, points=ids, wait=True)

    def _query(self, vectors: np.ndarray, k: int, filter: Filter, exact: bool) -> list[list[Found]]:
        m = self._models
        if exact:
            params = m.SearchParams(exact=True, quantization=m.QuantizationSearchParams(ignore=True))
        else:
            again = m.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
            params = m.SearchParams(hnsw_ef=max(EF, k), quantization=again)
        common = {"limit": k, "filter": self._filter(filter), "with_payload": True, "params": params}
        found: list[list[Found]] = []
        for rows in batches(len(vectors), self.model.dimension):
            requests = [m.QueryRequest(query=vector, **common) for vector in vectors[rows].tolist()]
            with self._told():
                answers = self._client.query_batch_points(self._collection, requests)
            found += [[Found(str(one.id), one.score, one.payload) for one in answer.points] for answer in answers]
        return found

    def _retrieve(self, ids: list[str], vectors: bool) -> list[Any]:
        found: list[Any] = []
        for rows in batches(len(ids), self.model.dimension):
            with self._told():
                found += self._client.retrieve(
                    self._collection, ids[rows], with_payload=not vectors, with_vectors=vectors
                )
        return found

    def _payloads(self, ids: list[str]) -> dict[str, Payload]:
        found = {str(one.id): one.payload for one in self._retrieve(ids, False)}
        return {one: found[one] for one in ids if one in found}

    def _vectors(self, ids: list[str]) -> dict[str, np.ndarray]:
        return {str(one.id): np.asarray(one.vector, np.float32) for one in self._retrieve(ids, True)}

    def count(self, filter: Filter = ALL) -> int:
        with self._told():
            return self._client.count(self._collection, count_filter=self._filter(filter), exact=True).count

    def scroll(self, filter: Filter = ALL) -> Iterator[tuple[list[str], np.ndarray, list[Payload]]]:
        offset, more, limit = None, True, next(batches(MOST, self.model.dimension)).stop
        while more:
            with self._told():
                found, offset = self._client.scroll(
                    self._collection, self._filter(filter), limit, offset=offset, with_payload=True, with_vectors=True
                )
            more = offset is not None
            if found:
                vectors = np.array([one.vector for one in found], np.float32)
                yield [str(one.id) for one in found], vectors, [one.payload for one in found]

    def _filter(self, filter: Filter) -> Any:
        m = self._models
        must: list[Any] = [
            m.FieldCondition(key=key, match=m.MatchAny(any=list(values))) for key, values in filter.keywords.items()
        ]
        if filter.since is not None or filter.until is not None:
            must.append(m.FieldCondition(key="time", range=m.DatetimeRange(gte=filter.since, lt=filter.until)))
        if filter.corrected is not None:
            match = [m.FieldCondition(key="corrected", match=m.MatchValue(value=True))]
            return m.Filter(must=must + match) if filter.corrected else m.Filter(must=must, must_not=match)
        return m.Filter(must=must) if must else None

    @contextmanager
    def rebuilt(self, model: Model | None = None):
        fresh = Server.__new__(Server)
        fresh.__dict__ |= self.__dict__
        with self._told():
            fresh._create(model or self.model)
        try:
            yield fresh
            with self._told():
                old = self._behind_alias()
                fresh._swap(old)
        except BaseException:
            with suppress(UserError), self._told():
                self._client.delete_collection(fresh._collection)
            raise
        self.model, self._collection = fresh.model, fresh._collection
        if old is not None:
            with self._told():
                self._client.delete_collection(old)

    def index(self) -> None:
        """The server does it by itself."""

    def close(self) -> None:
        self._client.close()
