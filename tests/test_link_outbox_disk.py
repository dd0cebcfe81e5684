"""The outbox on disks that are full, in files that are damaged, and beside files that are none of its own."""

import functools
import os
import resource
import sqlite3
import subprocess
import sys
import textwrap

import pytest
from conftest import ROOT, one_line
from link_parties import one_by_one
from test_link_outbox import fill, taken, texts

from edge.errors import UserError
from edge.link import outbox as module
from edge.link.outbox import Outbox


@pytest.fixture
def make(tmp_path, said):
    with one_by_one(functools.partial(Outbox, tmp_path / "outbox.db", say=said.append)) as make:
        yield make


FULL = """\
    import os, sys
    from edge.link.outbox import Outbox
    box = Outbox("outbox.db", say=lambda line: print("said", line, flush=True))
    numbers = iter(range(10**6))
    while not box.counts["unwritten"]:
        box.put("event", b"%06d" % next(numbers) + os.urandom(1000))
    for _ in range(20):
        box.put("event", b"%06d" % next(numbers))
    sent = []
    for _ in range(30):  # what arrived is not sent again, though the disk doesn't take that it has gone
        message = box.first()
        sent.append(int(message.payload[:6]))
        box.done(message)
    assert sent == list(range(30)), sent
    print("put", next(numbers), "unwritten", box.counts["unwritten"], flush=True)
    sys.stdin.readline()  # now there is room
    rest = []
    while message := box.first():
        rest.append(int(message.payload[:6]))
        box.done(message)
    print("rest", rest[0], len(rest), rest == sorted(set(rest)), "counts", box.counts, flush=True)
"""


def full_disk(folder, make_room, before=lambda: None) -> None:
    command = [sys.executable, "-c", textwrap.dedent(FULL)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=folder, env=environment, preexec_fn=before, **pipes)
    try:
        line = process.stdout.readline()
        assert line.startswith("said outbox.db: can't be written: ") and "1000 messages wait in memory" in line
        _, put, _, unwritten = process.stdout.readline().split()
        assert int(unwritten) == 21
        make_room(process)
        out, _ = process.communicate("\n", timeout=60)
        assert "said outbox.db: is written again" in out
        assert f"rest 30 {int(put) - 30} True" in out and "'waiting': 0" in out and "'dropped': 0" in out
    finally:
        process.kill()
        process.wait()


def test_a_limit_on_the_size_of_files(tmp_path):
    """Stands for a full disk where nothing can be mounted."""

    def make_room(process) -> None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    limits = (200_000, resource.RLIM_INFINITY)
    full_disk(tmp_path, make_room, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))


def test_a_full_disk(small_disk):
    (small_disk / "other").write_bytes(bytes(100_000))
    full_disk(small_disk, lambda process: (small_disk / "other").unlink())


def test_a_full_disk_is_no_reason_not_to_start(small_disk, said):
    path = small_disk / "outbox.db"
    box = Outbox(path)
    fill(box, 1, 2)
    box.close()
    with pytest.raises(OSError), open(small_disk / "other", "wb", buffering=0) as other:
        while True:
            other.write(bytes(4096))
    box = Outbox(path, say=said.append)
    fill(box, 3)
    assert taken(box) == texts(1, 2, 3) and len(said) == 1 and box.counts["unwritten"] == 1
    with pytest.raises(UserError, match="the disk is full") as caught:
        Outbox(small_disk / "new.db")
    one_line(caught)
    box.close()


def test_memory_is_bounded_too(make, said, monkeypatch):
    monkeypatch.setattr(module, "IN_MEMORY", 5)
    box = make()
    fill(box, 0, 1)
    pages = box._base.execute("PRAGMA page_count").fetchone()[0]
    box._base.execute(f"PRAGMA max_page_count = {pages}")
    for i in range(2, 12):
        box.put("event", b"%02d" % i + bytes(10_000))
    assert box.counts["dropped"] == 5 and box.counts["unwritten"] == 10 and len(said) == 1
    assert "the disk is full" in said[0]
    box._base.execute("PRAGMA max_page_count = 100000")
    assert [text[:2] for text in taken(box)] == [b"0", b"1", b"07", b"08", b"09", b"10", b"11"]
    assert len(said) == 2 and make().counts["dropped"] == 5


def test_parts_and_what_is_sent_go_on_in_memory(make):
    box = make()
    pages = box._base.execute("PRAGMA page_count").fetchone()[0]
    box._base.execute(f"PRAGMA max_page_count = {pages}")
    clip = b"clip" + bytes(10_000)
    box.put("clip", clip, later=True)
    for part in range(3):
        assert box.first().part == part
        box.part_done(box.first())
    sent = box.first()
    box._base.execute("PRAGMA max_page_count = 100000")
    box.put("clip", b"next", later=True)  # and now the disk takes both
    box.done(sent)
    assert taken(box) == [b"next"]


def test_a_damaged_outbox_is_set_aside(make, said):
    box = make()
    for _ in range(50):
        box.put("event", os.urandom(3000))
    box.close()
    with open(box.path, "r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(60_000))
    box = make()
    fill(box, 1)
    assert taken(box) == [b"1"] and box.counts["damaged"] == 1
    assert "damaged" in said[0] and box.path.with_name("outbox.db.damaged").stat().st_size > 100_000


@pytest.mark.parametrize("text", [b"my notes", b"x" * 5000])
def test_a_file_that_is_none_is_left_alone(tmp_path, text):
    path = tmp_path / "outbox.db"
    path.write_bytes(text)
    with pytest.raises(UserError, match="exists and is no outbox") as caught:
        Outbox(path)
    one_line(caught)
    assert path.read_bytes() == text


def test_the_data_base_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "outbox.db"
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE messages (a)")
    base.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="exists and is no outbox"):
        Outbox(path)
    assert path.read_bytes() == before


def test_places_where_nothing_can_be_written(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing/outbox.db", ".", "pipe", "a\0b", "\ud800"):
        with pytest.raises(UserError, match=r"can't be written|is no outbox") as caught:
            Outbox(tmp_path / name)
        one_line(caught)


def test_one_process_at_a_time(make):
    path = make().path
    code = "import sys; from edge.link.outbox import Outbox; Outbox(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip().endswith("outbox.db: is in use by another process; give each its own file")
