"""A stand-in for a Qdrant server: the routes that the store uses, over HTTP(S), in front of qdrant-client's local mode.

It is no Qdrant: what it proves is what goes over the line (encryption, key, sizes, order of requests), and that the
answers to it are understood.
"""

import http.server
import json
import re
import threading

from pydantic import BaseModel
from qdrant_client import QdrantClient, models

MOST_BYTES = 32 << 20  # of a request: Qdrant's own default


def plain(value):
    if isinstance(value, BaseModel):
        return json.loads(value.model_dump_json())
    return value


class Qdrant:
    """`requests` has (method, path, key, bytes) of each."""

    def __init__(self, context=None, key: str | None = None, keeps_metadata: bool = True):
        self.local = QdrantClient(":memory:")
        self.requests: list[tuple[str, str, str | None, int]] = []
        self.key, self.keeps_metadata, self.lock = key, keeps_metadata, threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                key, path = self.headers.get("api-key"), self.path.partition("?")[0]
                with outer.lock:
                    outer.requests.append((self.command, path, key, len(body)))
                    code, answer = outer.answer(self.command, path, key, body)
                data = json.dumps({"status": "ok", "time": 0.0, **answer}).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = _do

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a client that refused the certificate

        self.server = Quiet(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def paths(self, method: str) -> list[str]:
        return [path for verb, path, _, _ in self.requests if verb == method]

    def answer(self, method: str, path: str, key: str | None, body: bytes) -> tuple[int, dict]:
        if self.key is not None and key != self.key:
            return 401, {"status": {"error": "Must provide an API key"}}
        if len(body) > MOST_BYTES:
            return 413, {"status": {"error": "payload too large"}}
        for verb, pattern, act in ROUTES:
            if verb == method and (found := re.fullmatch(pattern, path)):
                try:
                    return 200, {"result": plain(act(self, json.loads(body or b"{}"), *found.groups()))}
                except ValueError as error:
                    return 404, {"status": {"error": str(error)}}
        return 404, {"status": {"error": f"no route {method} {path}"}}


def create(server, body, name):
    asked = models.CreateCollection(**body)
    assert asked.quantization_config.scalar.type == "int8" and asked.vectors.on_disk
    kept = asked.metadata if server.keeps_metadata else None
    return server.local.create_collection(name, vectors_config=asked.vectors, metadata=kept)


def upsert(server, body, name):
    return server.local.upsert(name, models.PointsBatch(**body).batch)


def aliases(server, body):
    asked = models.ChangeAliasesOperation(**body)
    return server.local.update_collection_aliases(change_aliases_operations=asked.actions)


def query(server, body, name):
    found = server.local.query_batch_points(name, models.QueryRequestBatch(**body).searches)
    return [plain(one) for one in found]


def count(server, body, name):
    return server.local.count(name, models.CountRequest(**body).filter)


def scroll(server, body, name):
    asked = models.ScrollRequest(**body)
    records, after = server.local.scroll(name, asked.filter, asked.limit, offset=asked.offset, with_vectors=True)
    return {"points": [plain(one) for one in records], "next_page_offset": after}


def retrieve(server, body, name):
    asked = models.PointRequest(**body)
    found = server.local.retrieve(name, asked.ids, asked.with_payload, asked.with_vector)
    return [plain(one) for one in found]


def payload(server, body, name):
    return server.local.set_payload(name, body["payload"], points=body["points"])


NAME = r"/collections/([^/]+)"
ROUTES = (
    ("GET", "/aliases", lambda server, _: server.local.get_aliases()),
    ("POST", "/collections/aliases", aliases),
    ("GET", NAME, lambda server, _, name: server.local.get_collection(name)),
    ("GET", f"{NAME}/exists", lambda server, _, name: {"exists": server.local.collection_exists(name)}),
    ("PUT", NAME, create),
    ("DELETE", NAME, lambda server, _, name: server.local.delete_collection(name)),
    ("PUT", f"{NAME}/index", lambda server, *_: {"status": "completed", "operation_id": 0}),
    ("PUT", f"{NAME}/points", upsert),
    ("POST", f"{NAME}/points", retrieve),
    ("POST", f"{NAME}/points/query/batch", query),
    ("POST", f"{NAME}/points/count", count),
    ("POST", f"{NAME}/points/scroll", scroll),
    ("POST", f"{NAME}/points/delete", lambda server, body, name: server.local.delete(name, body["points"])),
    ("POST", f"{NAME}/points/payload", payload),
)
