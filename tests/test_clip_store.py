"""The folder of clips: its budget, full disks, a folder that vanishes, kill -9, and folders that are refused."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import ROOT, one_line
from test_recorder import happening, make, noise, play, read  # noqa: F401 (a fixture)

from edge.errors import UserError
from edge.watch.avi import AviFile
from edge.watch.recorder import Recorder, Settings


def record(recorder, name: str, frames: int = 20, frame=noise):
    recorder.begin(happening(name))
    play(recorder, 0, frames, frame)
    return recorder.end(happening(name))


def test_the_budget(make, tmp_path):  # noqa: F811
    """The oldest go first, with their pictures, and are counted; other files stay."""
    recorder = make(budget=1_000_000, before=0.0)
    (tmp_path / "clips/mine.avi").write_bytes(b"x")
    recorder.add("yard", noise(0), 0)
    clips = [record(recorder, f"e{number}") for number in range(8)]
    assert not recorder._store._open_bytes and not recorder._store._names
    left = [(tmp_path / "clips" / clip.name).exists() for clip in clips]
    assert left == sorted(left) and recorder.counts["deleted"] == left.count(False) > 2 and left.count(True) >= 2
    assert [(tmp_path / "clips" / clip.picture).exists() for clip in clips] == left
    total = sum(path.stat().st_size for path in (tmp_path / "clips").glob("clip-*"))
    assert 600_000 < total <= 1_000_000 and (tmp_path / "clips/mine.avi").exists()
    last = clips[-1].name
    recorder = make(budget=clips[-1].bytes + 20_000)  # after a restart with less
    assert {path.name for path in (tmp_path / "clips").glob("*.avi")} == {last, "mine.avi"}


def test_a_clip_larger_than_the_budget(make, tmp_path):  # noqa: F811
    recorder = make(budget=300_000, before=0.0)
    recorder.add("yard", noise(0), 0)
    first = record(recorder, "small", 5)
    clip = record(recorder, "large", 60)
    assert clip.bytes <= 300_000 and recorder.counts["shortened"] == 1 and recorder.counts["deleted"] == 1
    assert len(read(tmp_path / "clips" / clip.name)) > 10 and not (tmp_path / "clips" / first.name).exists()


def test_a_clip_that_no_event_has_named_yet_outlives_the_others(make, tmp_path):  # noqa: F811
    """An event goes on long after its clip has reached its longest, while others fill the budget again and again."""
    recorder = make(budget=1_000_000, before=0.0, longest=1.0)
    recorder.add("yard", noise(0), 0)
    recorder.begin(happening("long"))
    play(recorder, 1, 20, noise)
    for number in range(12):
        record(recorder, f"e{number}")
    assert recorder.counts["deleted"] >= 4
    clip = recorder.end(happening("long"))
    path = tmp_path / "clips" / clip.name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == clip.sha256
    others = [record(recorder, f"f{number}") for number in range(2)]
    assert path.exists(), "its age began when its event named it"
    others += [record(recorder, f"g{number}") for number in range(8)]
    assert not path.exists() and (tmp_path / "clips" / others[-1].name).exists()


def test_an_event_names_no_clip_that_had_to_go(make, tmp_path):  # noqa: F811
    """Where nothing else is left to delete, what is not named yet goes too."""
    recorder = make(budget=150_000, before=0.0, longest=1.0)
    recorder.add("yard", noise(0), 0)
    for name in ("first", "second"):
        recorder.begin(happening(name))
        play(recorder, 1, 20, noise)
    assert recorder.end(happening("first")) is None and recorder.counts["deleted"] == 1
    clip = recorder.end(happening("second"))
    assert [path.name for path in (tmp_path / "clips").glob("*.avi")] == [clip.name]


@pytest.fixture
def full(small_disk, said):
    """A recorder on a file system of 400 kB."""
    recorder = Recorder(Settings(small_disk / "clips", 0.0, 0.0, 60.0, 10.0), said.append)
    recorder.add("yard", noise(0), 0)
    yield recorder
    recorder.close()


def test_a_full_disk_costs_the_oldest_clips(full, said):
    clips = [record(full, f"e{number}") for number in range(6)]
    assert all(clips) and full.counts["deleted"] >= 3 and full.counts["shortened"] == 0 and not said
    assert len(read(full.folder / clips[-1].name)) == 21


def test_a_full_disk_shortens_a_clip(full, said):
    clip = record(full, "e1", 100)
    assert len(read(full.folder / clip.name)) > 20 and full.counts["shortened"] == 1
    assert clip.bytes == (full.folder / clip.name).stat().st_size
    assert said == [f"{full.folder}: a clip can't be written: No space left on device"]


def test_a_full_disk_takes_no_clip(full, said):
    with pytest.raises(OSError), open(full.folder.parent / "other", "wb", buffering=0) as other:
        while True:
            other.write(bytes(4096))
    assert record(full, "e1") is None and full.counts["lost"] == 1 and len(said) == 1
    assert not list(full.folder.glob("*.avi")) and not list(full.folder.glob(".*.part"))
    (full.folder.parent / "other").unlink()
    assert record(full, "e2") is not None


def test_a_clip_that_can_not_be_finished_is_lost_once(make, monkeypatch, said):  # noqa: F811
    recorder = make(longest=3.0)
    play(recorder, 0, 10)
    recorder.begin(happening())

    def finish(self, period):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(AviFile, "finish", finish)
    play(recorder, 10, 50)
    assert recorder.counts["lost"] == 1 and recorder.end(happening()) is None
    assert recorder.counts["lost"] == 1 and recorder._store._open_bytes == 0 and len(said) == 1
    assert [path.name for path in recorder.folder.iterdir()] == [".edge-vision-clips"]


def test_a_folder_that_vanishes(make, tmp_path, said):  # noqa: F811
    recorder = make()
    play(recorder, 0, 5)
    recorder.begin(happening("a"))
    for path in (tmp_path / "clips").iterdir():
        path.unlink()
    (tmp_path / "clips").rmdir()
    play(recorder, 5, 10)
    assert recorder.end(happening("a")) is None
    recorder.begin(happening("b"))
    assert recorder.end(happening("b")) is None and recorder.counts["lost"] == 2 and len(said) == 1


RECORDS = """\
    import sys
    sys.path.insert(0, "tests")
    from pathlib import Path
    from test_recorder import Recorder, Settings, happening, noise
    recorder = Recorder(Settings(Path(sys.argv[1]), 0.5, 0.0, 60.0, 10.0, budget=3_000_000))
    for number in range(10**6):
        recorder.add("yard", noise(number % 50), number / 10)
        if number % 20 == 5:
            recorder.begin(happening(f"{sys.argv[2]}-{number // 20}"))
        if number % 20 == 15:
            clip = recorder.end(happening(f"{sys.argv[2]}-{number // 20}"))
            print(clip.name, clip.sha256, flush=True)
"""


@pytest.mark.slow
def test_kill_9(tmp_path):
    """At random moments: each clip that has a name is whole, each that was announced is there, the rest is removed."""
    random.seed(1)
    for run in range(3):
        command = [sys.executable, "-c", textwrap.dedent(RECORDS), str(tmp_path / "clips"), str(run)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        lines = [process.stdout.readline()]
        time.sleep(random.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        announced = dict(line.split() for line in lines if line.count(" ") == 1 and line.endswith("\n"))
        there = {path.name for path in (tmp_path / "clips").glob("*.avi")}
        assert announced and list(announced)[-1] in there
        for name in there:
            path = tmp_path / "clips" / name
            assert len(read(path)) == 16 if "-0.avi" not in name else len(read(path)) >= 11
            if name in announced:
                assert hashlib.sha256(path.read_bytes()).hexdigest() == announced[name]
        parts = len(list((tmp_path / "clips").glob(".*.part")))
        recorder = Recorder(Settings(tmp_path / "clips"))
        assert recorder.counts["leftovers"] == parts and not list((tmp_path / "clips").glob(".*.part"))
        recorder.close()


def test_folders_that_are_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/holiday.jpg").write_bytes(b"x")
    (tmp_path / "file").touch()
    used = Recorder(Settings(tmp_path / "used"))
    for name, said in [
        ("mine", "holds other files, and old clips are deleted; give an empty folder"),
        ("file", "can't be used for clips: File exists"),
        ("a/b", "can't be used for clips: No such file or directory"),
        ("a\0b", "can't be used for clips"),
        ("used", "is in use by another process"),
    ]:
        with pytest.raises(UserError) as caught:
            Recorder(Settings(tmp_path / name))
        assert said in one_line(caught)
    assert (tmp_path / "mine/holiday.jpg").exists() and os.listdir(tmp_path / "mine") == ["holiday.jpg"]
    used.close()
    Recorder(Settings(tmp_path / "used")).close()
