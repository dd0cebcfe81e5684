"""kill -9 while points are kept: what was acknowledged is there; and one process at a time."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from conftest import ROOT, one_line
from link_parties import environment
from stores_points import DIMENSION, MODEL, PAYLOADS, VECTORS, points

from edge.errors import UserError
from stages.defects.stores import brute, catalogue
from stages.defects.stores.point import Filter, identifier
from stages.defects.stores.table import open_store

pytestmark = pytest.mark.slow
STEP, KILLS = 5, 6

WRITER = """\
    import os, sys
    sys.path.insert(0, "tests")
    from stores_points import MODEL, points
    from stages.defects.stores.table import open_store
    vectors, payloads = points(20_000, 7)
    store = open_store(sys.argv[1], sys.argv[2], "defects", MODEL)
    for start in range(int(sys.argv[3]), len(payloads), {step}):
        rows = slice(start, start + {step})
        ids = store.upsert(vectors[rows], payloads[rows])
        if start % 3 == 0:
            store.label(ids[:1], "relabelled")
        if start % 4 == 0:
            store.delete(ids[-1:])
        os.write(1, b"%d\\n" % start)
        if start % 100 == 0:
            {at_times}
"""
AT_TIMES = {
    "brute": 'store.close(); store = open_store(sys.argv[1], sys.argv[2], "defects", MODEL)',  # rewrites the files
    "embedded": "store.index()",
}


@pytest.mark.parametrize("kind", AT_TIMES)
def test_a_writer_that_is_killed(kind, tmp_path):
    """At random instants; the next one goes on with what the last one was about."""
    random.seed(1)
    vectors, payloads = points(20_000, 7)
    program = textwrap.dedent(WRITER).format(step=STEP, at_times=AT_TIMES[kind])
    start, acknowledged = 0, 0
    for _ in range(KILLS):
        command = [sys.executable, "-c", program, kind, str(tmp_path), str(start)]
        with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE) as process:
            for _ in range(random.randrange(6, 60)):  # steps, not seconds: a fast machine would come to the end
                last = process.stdout.readline()
                assert last
            time.sleep(random.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            acknowledged = int([last, *process.stdout.read().split()][-1])
        assert process.returncode == -signal.SIGKILL
        start = acknowledged  # again, and on
        with open_store(kind, str(tmp_path), "defects") as store:
            check(store, vectors, payloads, acknowledged)
    assert acknowledged > 100


def check(store, vectors, payloads, acknowledged) -> None:
    found = {}
    for ids, kept, more in store.scroll():
        found |= {one: (vector, payload) for one, vector, payload in zip(ids, kept, more, strict=True)}
    for start in range(0, acknowledged + STEP, STEP):
        for row in range(start, start + STEP):
            one = identifier(MODEL, payloads[row])
            if start % 4 == 0 and row == start + STEP - 1:
                assert one not in found, f"{row} came back"
                continue
            assert one in found, f"{row} was lost, of {acknowledged} acknowledged"
            assert np.allclose(found[one][0], vectors[row], atol=1e-6)
            relabelled = start % 3 == 0 and row == start
            assert found[one][1]["type"] == ("relabelled" if relabelled else payloads[row]["type"])
    # of the step that nobody acknowledged there may be some
    assert len(found) <= len(range(0, acknowledged + 2 * STEP))


@pytest.mark.parametrize("dies_at", range(5))  # `pending` appears, three files come into their places, it disappears
def test_files_that_are_replaced_are_of_one_state(tmp_path, monkeypatch, dies_at):
    """The process dies at every instant of the replacement there is: old files and journal, or new ones."""
    with open_store("brute", str(tmp_path), "defects", MODEL) as store:
        store.upsert(VECTORS[:50], PAYLOADS[:50])
    store = open_store("brute", str(tmp_path), "defects")
    ids = store.upsert(VECTORS[50:60], PAYLOADS[50:60])
    store.delete(ids[:1])

    class Dead(BaseException):
        pass

    replace, done = os.replace, []

    def dying(*names):
        if len(done) == dies_at:
            raise Dead
        done.append(replace(*names))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(Dead):
            store.close()
    assert (tmp_path / "defects/pending").exists() == (dies_at > 0)
    with open_store("brute", str(tmp_path), "defects") as again:
        assert again.count() == 59
        assert np.array_equal(again.vectors(ids[1:]), VECTORS[51:60])
    assert len(catalogue.read(tmp_path / "defects").payloads) == 59


def test_a_journal_that_is_damaged_in_its_middle_is_not_cut(tmp_path):
    store = open_store("brute", str(tmp_path), "defects", MODEL)
    store.upsert(VECTORS[:1], PAYLOADS[:1])
    store.upsert(VECTORS[1:2], PAYLOADS[1:2])
    store._lock.release()
    path = tmp_path / "defects/.journal"
    data = path.read_bytes()
    path.write_bytes(data + b"half a li")
    again = open_store("brute", str(tmp_path), "defects")
    assert again.count() == 2 and path.read_bytes() == data
    again._lock.release()
    path.write_bytes(data.replace(b"set 0", b"set 1", 1))
    with pytest.raises(UserError, match=r"\.journal: damaged after 0 bytes") as caught:
        open_store("brute", str(tmp_path), "defects")
    assert one_line(caught)


@pytest.mark.parametrize("kind", AT_TIMES)
def test_two_writers(kind, tmp_path):
    with open_store(kind, str(tmp_path), "defects", MODEL):
        with pytest.raises(UserError, match="in use by another process") as caught:
            open_store(kind, str(tmp_path), "defects", MODEL)
        assert one_line(caught)
        command = [sys.executable, "-m", "stages.defects", "query", "--like", identifier(MODEL, PAYLOADS[0])]
        command += ["--store", kind, "--at", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
        assert done.returncode == 1 and not done.stdout
        assert done.stderr.startswith("error: query: ") and done.stderr.count("\n") == 1 and "in use" in done.stderr
    with open_store(kind, str(tmp_path), "defects") as store:
        assert store.count() == 0


@pytest.mark.parametrize("kind", AT_TIMES)
def test_a_folder_of_other_files_is_left_alone(kind, tmp_path):
    (tmp_path / "defects").mkdir()
    (tmp_path / "defects/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="other files") as caught:
        open_store(kind, str(tmp_path), "defects", MODEL)
    assert one_line(caught) and (tmp_path / "defects/notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file") as caught:
        open_store(kind, str(tmp_path / "file"), "defects", MODEL)
    assert one_line(caught)


def test_what_an_interrupted_start_or_rebuild_left_is_removed(tmp_path):
    with open_store("embedded", str(tmp_path), "defects", MODEL) as store:
        store.upsert(VECTORS[:5], PAYLOADS[:5])
        generator = store.rebuilt()
        generator.__enter__().upsert(VECTORS[:9], PAYLOADS[:9])
        assert len(list((tmp_path / "defects").glob("shard-*"))) == 2
        generator.gen = None  # never ends
    with open_store("embedded", str(tmp_path), "defects") as store:
        assert store.count() == 5 and len(list((tmp_path / "defects").glob("shard-*"))) == 1
    (tmp_path / "defects/collection.json").unlink()
    with open_store("embedded", str(tmp_path), "defects", MODEL) as store:
        assert store.count() == 0


def test_a_damaged_shard_is_one_line(tmp_path):
    with open_store("embedded", str(tmp_path), "defects", MODEL) as store:
        store.upsert(VECTORS[:5], PAYLOADS[:5])
    for path in (tmp_path / "defects").rglob("*.json"):
        if path.name != "collection.json":
            path.write_text("{")
    with pytest.raises(UserError, match="embedded Qdrant failed") as caught:
        open_store("embedded", str(tmp_path), "defects")
    assert one_line(caught)
    (tmp_path / "defects/collection.json").write_text('{"shard": 5}')
    with pytest.raises(UserError, match=r"collection\.json: damaged"):
        open_store("embedded", str(tmp_path), "defects")


def test_filtered_rows_follow_changes(tmp_path):
    """The columns of the brute store are made anew after a change."""
    with open_store("brute", str(tmp_path), "defects", MODEL) as store:
        assert isinstance(store, brute.Brute)
        ids = store.upsert(VECTORS[:30], PAYLOADS[:30])
        holes = Filter(types=("hole",))
        assert store.count(holes) == 10
        store.label(ids[:1], "hole")
        assert store.count(holes) == 11
        store.delete(ids[:1])
        assert store.count(holes) == 10 and store.count() == 29
        assert store.query(np.eye(DIMENSION, dtype=np.float32)[:1], 1)[0][0].id in ids[1:]
