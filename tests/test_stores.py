"""All stores of labelled defects in the same tests: neighbours equal those of brute force, whatever is asked for."""

import numpy as np
import pytest
from conftest import one_line
from qdrant_client import QdrantClient
from qdrant_rest import Qdrant
from sklearn.neighbors import NearestNeighbors
from stores_points import COUNT, MODEL, OTHER, PAYLOADS, TYPES, VECTORS, points

from edge.errors import UserError
from stages.defects.stores import server
from stages.defects.stores.point import Filter, Model, instant
from stages.defects.stores.table import STORES, open_store

QUERIES = points(20, 1)[0]


def expected(k, keep=None, vectors=VECTORS):
    """Rows and distances by scikit-learn, among the rows `keep`."""
    rows = np.arange(len(vectors)) if keep is None else np.flatnonzero(keep)
    k = min(k, len(rows))
    distances, found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(vectors[rows]).kneighbors(QUERIES)
    return rows[found], distances


pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect", "ignore:Local mode performs exact")


@pytest.fixture(params=["brute", "embedded", "server", "server over HTTP"])
def kind(request, tmp_path, monkeypatch):
    """Opens the collection `defects` of one kind of store."""
    where, name = str(tmp_path / "stores"), request.param.partition(" ")[0]
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    if request.param == "server":
        local = QdrantClient(":memory:")
        monkeypatch.setattr(local, "close", lambda: None)
        monkeypatch.setattr(server, "connect", lambda url: local)
    if request.param == "server over HTTP":
        with Qdrant() as found:
            yield lambda model=MODEL, name_="defects": open_store(name, found.url, name_, model)
    else:
        yield lambda model=MODEL, name_="defects": open_store(name, where, name_, model)


@pytest.fixture
def store(kind):
    with kind() as store:
        yield store


@pytest.fixture
def filled(store):
    store.ids = store.upsert(VECTORS, PAYLOADS)
    return store


def same(found, ids, rows, distances):
    for neighbours, wanted, far in zip(found, rows, distances, strict=True):
        assert [one.id for one in neighbours] == [ids[row] for row in wanted]
        assert np.allclose([one.distance for one in neighbours], far, atol=1e-3)
        assert [one.payload for one in neighbours] == [PAYLOADS[row] for row in wanted]


def test_neighbours_are_those_of_brute_force(filled):
    for k in (1, 10, COUNT + 5):
        same(filled.query(QUERIES, k), filled.ids, *expected(k))


def test_the_index_finds_nearly_all(filled):
    filled.index()
    rows, _ = expected(10)
    found = filled.query(QUERIES, 10, exact=False)
    hits = [len({one.id for one in a} & {filled.ids[row] for row in b}) for a, b in zip(found, rows, strict=True)]
    assert np.mean(hits) / 10 >= 0.95
    same(filled.query(QUERIES, 10), filled.ids, rows, expected(10)[1])


DAY = instant("2026-05-10T04:30:00Z")  # 06:30 in the zone of the points
FILTERS = {
    "several types": (Filter(types=TYPES[:2]), lambda p: p["type"] in TYPES[:2]),
    "a type with a comma": (Filter(types=TYPES[2:]), lambda p: p["type"] == TYPES[2]),
    "product": (Filter(products=("p3",)), lambda p: p.get("product") == "p3"),
    "products and line": (
        Filter(products=("p1", "p2"), lines=("line 1",)),
        lambda p: p.get("product") in ("p1", "p2") and p.get("line") == "line 1",
    ),
    "since, included, in another zone": (
        Filter(since="2026-05-10T04:30:00Z"),
        lambda p: "time" in p and instant(p["time"]) >= DAY,
    ),
    "until, excluded": (Filter(until="2026-05-10T06:30:00+02:00"), lambda p: "time" in p and instant(p["time"]) < DAY),
    "all at once": (
        Filter(TYPES[:1], ("p1", "p2", "p3"), ("line 0", "line 1"), "2026-05-02T00:00:00Z", "2026-05-20T00:00:00Z"),
        lambda p: (
            p["type"] == TYPES[0]
            and p.get("product") in ("p1", "p2", "p3")
            and instant("2026-05-02T00:00:00Z") <= instant(p["time"]) < instant("2026-05-20T00:00:00Z")
        ),
    ),
}


def test_filters(filled):
    for chosen, keeps in FILTERS.values():
        keep = np.array([bool(keeps(payload)) for payload in PAYLOADS])
        assert 0 < keep.sum() < COUNT
        same(filled.query(QUERIES, 7, chosen), filled.ids, *expected(7, keep))
        assert filled.count(chosen) == keep.sum()
        assert sorted(one for ids, *_ in filled.scroll(chosen) for one in ids) == sorted(
            one for one, kept in zip(filled.ids, keep, strict=True) if kept
        )
    nobody = Filter(products=("p99",))
    assert filled.query(QUERIES[:2], 3, nobody) == [[], []] and filled.count(nobody) == 0
    assert filled.query(QUERIES[:0], 3) == []


def test_a_repeated_push_stores_once_and_replaces(filled, kind):
    changed = [payload | {"score": 0.75} for payload in PAYLOADS[:10]]
    assert filled.upsert(VECTORS[100:110], changed) == filled.ids[:10]
    assert filled.count() == COUNT
    moved = VECTORS.copy()
    moved[:10] = VECTORS[100:110]
    assert np.allclose(filled.vectors(filled.ids), moved, atol=1e-6)
    (nearest,) = filled.query(VECTORS[105:106], 2)
    assert {one.id for one in nearest} == {filled.ids[5], filled.ids[105]}
    assert sorted(one.payload["score"] for one in nearest) == [0.5, 0.75]


def test_what_was_kept_is_there_again(kind):
    with kind() as store:
        ids = store.upsert(VECTORS, PAYLOADS)
        store.delete(ids[:1])
    with kind(None) as store:
        assert store.model == MODEL and store.count() == COUNT - 1
        keep = np.arange(COUNT) > 0
        same(store.query(QUERIES, 5), ids, *expected(5, keep))


def test_delete_and_label(filled):
    assert filled.delete(filled.ids[:3]) == 3 == filled.delete(filled.ids[:6])  # of which three were gone
    assert filled.count() == COUNT - 6
    keep = np.arange(COUNT) >= 6
    same(filled.query(QUERIES, 5), filled.ids, *expected(5, keep))
    scratches = filled.count(Filter(types=("scratch",)))
    assert filled.label([filled.ids[7], filled.ids[7].upper(), filled.ids[0]], "scratch") == 1  # 7 was a hole
    assert filled.count(Filter(types=("scratch",))) == scratches + 1
    assert filled.corrections() == {(PAYLOADS[7]["picture"], 1, 2, 3, 4): "scratch"}
    assert filled.count(Filter(corrected=False)) == COUNT - 7
    (one,) = filled.query(VECTORS[7:8], 1)[0]
    assert one.payload == PAYLOADS[7] | {"type": "scratch", "corrected": True}


def test_a_rebuild_replaces_all_at_once(filled, kind):
    vectors, payloads = points(50, 2)
    with filled.rebuilt() as fresh:
        fresh.upsert(vectors, payloads)
        assert filled.count() == COUNT and fresh.count() == 50
        same(filled.query(QUERIES, 3), filled.ids, *expected(3))
    assert filled.count() == 50
    filled.upsert(VECTORS[:1], PAYLOADS[:1])
    filled.close()
    with kind() as again:
        assert again.count() == 51


def test_a_rebuild_that_fails_changes_nothing(filled, kind):
    with pytest.raises(UserError, match="unit length"), filled.rebuilt(OTHER) as fresh:
        fresh.upsert(VECTORS[:9], PAYLOADS[:9])
        fresh.upsert(VECTORS[:1] * 2, PAYLOADS[:1])
    assert filled.count() == COUNT and filled.model == MODEL
    filled.close()
    with kind() as again:
        assert again.count() == COUNT


def test_a_rebuild_may_be_of_another_model(kind):
    with kind() as store:
        store.upsert(VECTORS, PAYLOADS)
        wide = Model(OTHER.sha256, 2)
        with store.rebuilt(wide) as fresh:
            fresh.upsert(np.array([[0, 1]]), PAYLOADS[:1])
        assert store.model == wide and store.query(np.array([[1, 0]]), 1)[0][0].distance == pytest.approx(2**0.5)
    with kind(None) as store:
        assert store.model == wide and store.count() == 1


def test_another_model_is_refused(filled, kind):
    filled.close()
    for model, why in ((OTHER, "holds embeddings of the model"), (Model(MODEL.sha256, 8), "vectors of 16 numbers")):
        with pytest.raises(UserError, match=why) as caught:
            kind(model)
        assert one_line(caught)
    with kind() as again:  # and nothing stays locked
        assert again.count() == COUNT


def test_two_collections_are_two(filled, kind):
    if isinstance(filled, server.Server):
        with kind(OTHER, "others") as other:
            assert other.count() == 0
    else:
        with kind(OTHER, "others") as other:
            other.upsert(VECTORS[:3], PAYLOADS[:3])
            assert other.count() == 3
    assert filled.count() == COUNT


def test_without_a_model_nothing_is_made(kind):
    with pytest.raises(UserError, match="push one") as caught:
        kind(None, "nobody")
    assert one_line(caught)


GOOD = {"type": "a", "picture": "p.png", "box": [0, 0, 1, 1], "score": 1}


@pytest.mark.parametrize(
    "change, why",
    [
        ({"type": ""}, "type ''"),
        ({"type": " "}, "type ' '"),
        ({"type": "a\nb"}, "printable"),
        ({"type": "unknown"}, "no type of defect"),
        ({"type": 3}, "type '3'"),
        ({"line": "x" * 201}, "line"),
        ({"product": None}, "product"),
        ({"time": "2026-05-01"}, "RFC 3339"),
        ({"time": "2026-05-01T10:00:00"}, "RFC 3339"),
        ({"time": "2026-02-30T10:00:00Z"}, "RFC 3339"),
        ({"time": 5}, "RFC 3339"),
        ({"picture": "\udcff"}, "UTF-8"),
        ({"picture": ""}, "picture"),
        ({"box": [1, 2, 3]}, "four numbers"),
        ({"box": [1, 2, 3, float("nan")]}, "four numbers"),
        ({"box": [1, 2, 3, True]}, "four numbers"),
        ({"score": "high"}, "score"),
        ({"score": float("inf")}, "score"),
        ({"corrected": False}, "corrected"),
    ],
)
def test_wrong_payloads(tmp_path, change, why):
    """Which all kinds have checked in one place."""
    store = open_store("brute", str(tmp_path), "defects", MODEL)
    with pytest.raises(UserError, match=why) as caught:
        store.upsert(VECTORS[:2], [GOOD, GOOD | change])
    assert "point 2: " in one_line(caught) and store.count() == 0


@pytest.mark.parametrize("field", GOOD)
def test_missing_fields(tmp_path, field):
    store = open_store("brute", str(tmp_path), "defects", MODEL)
    with pytest.raises(UserError, match=f"{field} missing"):
        store.upsert(VECTORS[:1], [{key: value for key, value in GOOD.items() if key != field}])


def test_wrong_calls(filled):
    for call, why in {
        "wrong dimension": (lambda: filled.query(QUERIES[:, :4], 3), "vectors are 20 x 4, must be N x 16"),
        "not unit": (lambda: filled.query(QUERIES * 2, 3), "vector 1 has length 2"),
        "nan": (lambda: filled.query(QUERIES * np.nan, 3), "length nan"),
        "overflow": (lambda: filled.query(QUERIES * np.float32(1e38), 3), "length inf"),
        "no k": (lambda: filled.query(QUERIES, 0), "0 neighbours"),
        "too many": (lambda: filled.upsert(VECTORS[:2], PAYLOADS[:1]), "2 vectors and 1 payloads"),
        "no id": (lambda: filled.delete(["five"]), "'five'"),
        "no text": (lambda: filled.label([None], "a"), "'None'"),
        "unknown id": (lambda: filled.vectors([filled.ids[0][:-3] + "000"]), "no point"),
        "type": (lambda: filled.label(filled.ids[:1], "good"), "no type of defect"),
    }.values():
        with pytest.raises(UserError, match=why) as caught:
            call()
        assert one_line(caught)
    assert filled.count() == COUNT


def test_every_kind_is_tested():
    assert {"brute", "embedded", "server"} == STORES.keys()


@pytest.mark.parametrize("name", ["", "a/b", "..", "a" * 101, "ü", "a\n"])
def test_names_of_collections(tmp_path, name):
    with pytest.raises(UserError, match="no name of a collection"):
        open_store("brute", str(tmp_path), name, MODEL)
