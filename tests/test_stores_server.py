"""What goes over the line to a server, met here by a stand-in (tests/qdrant_rest.py): no real Qdrant runs in tests."""

import ssl

import numpy as np
import pytest
from conftest import one_line
from link_parties import Authority, free_port
from qdrant_rest import Qdrant
from stores_points import MODEL, PAYLOADS, VECTORS, points

from edge.errors import UserError
from stages.defects.stores import base, server
from stages.defects.stores.point import Model
from stages.defects.stores.server import connect
from stages.defects.stores.table import open_store

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect", "ignore:Local mode performs exact")
KEY = "geheim-123"


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("QDRANT_API_KEY", "QDRANT_CA", "QDRANT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def context(authority, name="server", **options) -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(*authority.issue(name, **options))
    return found


def test_encrypted_with_a_key_in_every_request(authority, monkeypatch):
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    monkeypatch.setenv("QDRANT_CA", str(authority.file))
    with Qdrant(context(authority), KEY) as qdrant:
        assert qdrant.url.startswith("https://")
        with open_store("server", qdrant.url, "defects", MODEL) as store:
            ids = store.upsert(VECTORS, PAYLOADS)
            assert store.query(VECTORS[:3], 1)[2][0].id == ids[2]
    assert len(qdrant.requests) > 8 and {key for _, _, key, _ in qdrant.requests} == {KEY}


def test_certificates_and_keys_that_are_refused(authority, monkeypatch):
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    with Qdrant(context(authority), KEY) as qdrant:
        refused(qdrant, "certificate verify failed")  # nobody vouches for it
        monkeypatch.setenv("QDRANT_CA", str(authority.file))
        monkeypatch.setenv("QDRANT_API_KEY", "wrong")
        refused(qdrant, r"refused QDRANT_API_KEY \(401\)")
        monkeypatch.delenv("QDRANT_API_KEY")
        refused(qdrant, r"refused QDRANT_API_KEY \(401\)")
        assert {key for _, _, key, _ in qdrant.requests} == {"wrong", None}
    with Qdrant(context(authority, "other", host="10.0.0.1"), KEY) as qdrant:
        refused(qdrant, "IP address mismatch")


def refused(qdrant, why) -> None:
    with pytest.raises(UserError, match=why) as caught:
        open_store("server", qdrant.url, "defects", MODEL)
    assert one_line(caught) and KEY not in str(caught.value)


def test_batches_fit_into_a_request():
    """A thousand points, and fewer of long vectors: the server takes 32 MB."""
    with Qdrant() as qdrant:
        with open_store("server", qdrant.url, "short", MODEL) as store:
            vectors, payloads = points(1050, 3)
            store.upsert(vectors, payloads)
        sizes = [size for verb, path, _, size in qdrant.requests if verb == "PUT" and path.endswith("/points")]
        assert len(sizes) == 2 and sizes[0] > 10 * sizes[1]
        wide = Model(MODEL.sha256, 4096)
        with open_store("server", qdrant.url, "wide", wide) as store:
            store.upsert(np.full((70, 4096), 1 / 64), payloads[:70])
            assert sum(len(ids) for ids, *_ in store.scroll()) == 70
    sizes = [size for verb, path, _, size in qdrant.requests if verb == "PUT" and path.endswith("/points")][2:]
    assert len(sizes) == 2 and max(sizes) < 8e6
    assert list(base.batches(130, 4096)) == [slice(0, 64), slice(64, 128), slice(128, 192)]


def test_a_rebuild_swaps_the_alias_in_one_request():
    with Qdrant() as qdrant, open_store("server", qdrant.url, "defects", MODEL) as store:
        store.upsert(VECTORS, PAYLOADS)
        old = store._collection
        before = len(qdrant.requests)
        with store.rebuilt() as fresh:
            fresh.upsert(VECTORS[:5], PAYLOADS[:5])
        made = [(verb, path) for verb, path, _, _ in qdrant.requests[before:]]
        swaps = [i for i, one in enumerate(made) if one == ("POST", "/collections/aliases")]
        assert len(swaps) == 1 and made.index(("PUT", f"/collections/{store._collection}/points")) < swaps[0]
        assert made[-1] == ("DELETE", f"/collections/{old}") and len(made) - 2 == swaps[0]
        aliases = qdrant.local.get_aliases().aliases
        assert [(one.alias_name, one.collection_name) for one in aliases] == [("defects", store._collection)]
        assert [one.name for one in qdrant.local.get_collections().collections] == [store._collection]


def test_every_filtered_field_has_an_index():
    with Qdrant() as qdrant, open_store("server", qdrant.url, "defects", MODEL) as store:
        indexed = [path for path in qdrant.paths("PUT") if path.endswith("/index")]
        assert len(indexed) == len(server.KEYWORDS) + 2 and store.count() == 0


def test_collections_of_others_are_left_alone():
    with Qdrant() as qdrant:
        qdrant.local.create_collection("defects", vectors_config=server_vectors())
        with pytest.raises(UserError, match="is a collection, not the alias of one"):
            open_store("server", qdrant.url, "defects", MODEL)
        alias(qdrant, "defects", "other")
        with pytest.raises(UserError, match="names no model"):
            open_store("server", qdrant.url, "other", MODEL)
        assert qdrant.local.count("defects").count == 0


def server_vectors():
    from qdrant_client import models

    return models.VectorParams(size=16, distance=models.Distance.COSINE)


def alias(qdrant, collection, name):
    from qdrant_client import models

    made = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=collection, alias_name=name))
    qdrant.local.update_collection_aliases(change_aliases_operations=[made])


def test_a_server_that_keeps_no_metadata_is_too_old():
    with Qdrant(keeps_metadata=False) as qdrant:
        with pytest.raises(UserError, match="use a newer one") as caught:
            open_store("server", qdrant.url, "defects", MODEL)
        assert one_line(caught) and not qdrant.local.get_collections().collections


def test_a_server_that_is_not_there():
    with pytest.raises(UserError, match=r"can't be reached: .*docs/defect-stores.md") as caught:
        open_store("server", f"http://127.0.0.1:{free_port()}", "defects", MODEL)
    assert one_line(caught)


def test_a_server_that_goes_away_in_the_middle():
    with Qdrant() as qdrant:
        store = open_store("server", qdrant.url, "defects", MODEL)
        store.upsert(VECTORS[:5], PAYLOADS[:5])
        qdrant.key = "changed"
        for call in (lambda: store.count(), lambda: store.upsert(VECTORS, PAYLOADS), lambda: store.query(VECTORS, 1)):
            with pytest.raises(UserError, match="refused QDRANT_API_KEY"):
                call()
        qdrant.key = None
        qdrant.local.delete_collection(store._collection)
        with pytest.raises(UserError, match="answer 404") as caught:
            store.count()
        assert one_line(caught)


@pytest.mark.parametrize(
    "url, why",
    [
        ("qdrant.example:6333", "must be like https"),
        ("ftp://qdrant.example", "must be like https"),
        ("", "must be like https"),
        ("https://", "must be like https"),
        ("https://a:b", "must be like https"),
        ("https://a:99999", "must be like https"),
        ("https://[::1", "must be like https"),
        ("https://a?x=1", "must be like https"),
        ("https://me:secret@a:6333", "no user or password"),
        ("http://qdrant.example:6333", "would travel unencrypted"),
        ("http://10.0.0.1", "would travel unencrypted"),
    ],
)
def test_addresses_that_cannot_be(monkeypatch, url, why):
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    with pytest.raises(UserError, match=why) as caught:
        connect(url)
    assert one_line(caught) and "secret" not in str(caught.value) and KEY not in str(caught.value)


def test_wrong_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("QDRANT_API_KEY", "a\nb")
    with pytest.raises(UserError, match="QDRANT_API_KEY: must be printable"):
        connect("https://a")
    monkeypatch.setenv("QDRANT_API_KEY", "a")
    monkeypatch.setenv("QDRANT_CA", "/nowhere/ca.pem")
    with pytest.raises(UserError, match=r"QDRANT_CA /nowhere/ca\.pem: can't be used: No such file"):
        connect("https://a")
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("QDRANT_CA", str(tmp_path / "ca.pem"))
    with pytest.raises(UserError, match=r"ca\.pem: can't be used") as caught:
        connect("https://a")
    assert one_line(caught)


@pytest.mark.parametrize(
    "url, base_url",
    [
        ("http://localhost", "http://localhost:6333"),
        ("https://q.example:443/prefix/", "https://q.example:443/prefix"),
        ("http://[::1]:7000", "http://[::1]:7000"),
    ],
)
def test_addresses(url, base_url):
    client = connect(url)
    assert client._client.rest_uri == base_url
    client.close()
