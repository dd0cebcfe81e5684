"""`experiments soak`: what it demands, that it sees what it demands fail, and a short run."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tiny_models
from conftest import ROOT
from link_parties import has_mosquitto, until

from experiments import soak
from experiments.__main__ import main
from experiments.soak import conditions, memory
from experiments.soak_parties import ClipReader, Store


def record(**changes):
    made = {
        "exit_code": 0,
        "fps": 9.9,
        "video_fps": 10.0,
        "memory": {"least": -0.01, "most": 0.01},
        "machine": {"others_cores_used": 0.1},
        "frames": {"in": 100, "judged": 40, "spared": 50, "dropped": 7, "withheld": 3},
        "clips": {"read": 3, "unplayable": [], "unread": []},
        "events": {"printed": 9, "stored": 9, "missing": 0, "out_of_order": 0},
        "link": {"dropped": 0, "refused": 0},
    }
    return {key: {**value, **changes[key]} if isinstance(value, dict) and key in changes else changes.get(key, value)
            for key, value in made.items()}  # fmt: skip


def test_what_holds():
    assert all(conditions(record()).values())
    assert all(conditions(record(fps=4.0, machine={"others_cores_used": 1.8})).values())


@pytest.mark.parametrize(
    "changes",
    [
        {"exit_code": -9},
        {"fps": 9.0},
        {"memory": {"most": 0.021}},
        {"memory": {"least": -0.021}},
        {"frames": {"spared": 49}},
        {"clips": {"read": 0}},
        {"clips": {"unplayable": ["clip-1.avi: 3 frames by OpenCV, 2 by PyAV"]}},
        {"clips": {"unread": ["clip-1.avi"]}},
        {"events": {"stored": 10}},
        {"events": {"missing": 1}},
        {"events": {"out_of_order": 1}},
        {"link": {"dropped": 1}},
    ],
)
def test_what_does_not_hold(changes):
    assert list(conditions(record(**changes)).values()).count(False) == 1


def test_memory_is_judged_after_the_warm_up():
    looks = [{"at": 10.0 * i, "rss": 100 if i < 3 else 199 + i % 3} for i in range(12)]
    assert memory(looks, 30) == {"median_mb": 0.0, "least": -0.005, "most": 0.005, "warm_up_s": 30}
    assert memory(looks, 20)["least"] == -0.5


def stored(*messages):
    store = Store.__new__(Store)
    store.stored = {name: int(name.split("/")[1]) for name in messages}
    store.again = store.unreadable = 0
    return store.counts(["a/0", "a/1", "b/0"])


def test_order_and_loss_are_seen():
    assert (stored("a/0", "b/0", "a/1")["missing"], stored("a/0", "b/0", "a/1")["out_of_order"]) == (0, 0)
    assert stored("a/1", "a/0", "b/0")["out_of_order"] == 2
    assert stored("a/1", "b/0")["missing"] == 1 and stored("a/1", "b/0")["out_of_order"] == 1


def test_a_clip_that_does_not_play_is_seen(tmp_path):
    from hashlib import sha256

    def clip(name, cut=None, digest=None):
        path = tmp_path / name
        file = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
        for value in range(20):
            file.write(np.full((48, 64, 3), 10 * value, np.uint8))
        file.release()
        data = path.read_bytes()[:cut]
        path.write_bytes(data)
        return SimpleNamespace(clip=SimpleNamespace(name=name, sha256=digest or sha256(data).hexdigest(), picture=None))

    with ClipReader(tmp_path) as reader:
        reader.take(clip("whole.avi"))
        reader.take(clip("cut.avi", cut=300))
        reader.take(clip("other.avi", digest="0" * 64))
        gone = clip("gone.avi")
        (tmp_path / "gone.avi").unlink()
        reader.take(gone)
        assert until(reader.idle)
    found = reader.counts()
    assert (found["read"], found["frames_read"], found["unread"]) == (1, 20, ["gone.avi"])
    assert [line.split(":")[0] for line in found["unplayable"]] == ["cut.avi", "other.avi"]


@pytest.mark.skipif(not has_mosquitto(), reason="needs mosquitto (apt-get install mosquitto)")
def test_a_watch_that_fails_at_the_start_is_one_line(tmp_path, monkeypatch, capsys):
    """Also where it lived long enough to be looked at."""
    monkeypatch.setattr(soak, "EVERY", 0.05)
    monkeypatch.chdir(ROOT)
    (tmp_path / "empty").mkdir()
    words = ["soak", "--assets", tmp_path, "--anomaly", tmp_path / "empty", "--detector", tmp_path / "empty"]
    with pytest.raises(SystemExit) as caught:
        main(list(map(str, words)))
    err = capsys.readouterr().err
    assert caught.value.code == 1 and err.startswith("error: soak: the watch ended before") and err.count("\n") == 1
    assert "yunet/face_detection_yunet_n_320.onnx: no such file" in err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--minutes", "nan"], "--minutes nan: must be above 0"),
        (["--output", "empty/there/x.json"], "--output empty/there/x.json: empty/there is no folder"),
        ([], "examples/pedestrian.json: not found; run from the folder that holds dvc.yaml"),
    ],
)
def test_what_is_wrong_is_said_before_it_begins(here, capsys, words, message):
    (here / "empty").mkdir()
    (here / "empty/there").touch()
    with pytest.raises(SystemExit) as caught:
        main(["soak", "--assets", "empty", "--anomaly", "empty", *words])
    err = capsys.readouterr().err.replace(f"{here}/", "")
    assert caught.value.code == 1 and message in err and err.count("\n") == 1


@pytest.mark.assets
@pytest.mark.slow
@pytest.mark.skipif(not has_mosquitto(), reason="needs mosquitto (apt-get install mosquitto)")
def test_a_short_run(assets, tmp_path):
    command = [sys.executable, "-m", "experiments", "soak", "--assets", assets, "--minutes", "0.4"]
    command += ["--anomaly", tiny_models.build() / "float", "--output", tmp_path / "record.json"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    found = json.loads((tmp_path / "record.json").read_text())
    failed = [name for name, holds in found["conditions"].items() if not holds]
    # within half a minute memory may not have settled, and a busy machine may have ended no clip and lost frames
    unsure = {"memory flat", "clips were made", "at the video's frame rate, unless others took the cores"}
    assert set(failed) <= unsure, failed
    assert done.returncode == (1 if failed else 0)
    assert len(found["rules"]) >= 5 and found["looks"]["objects"] and found["looks"]["anomaly"]
    assert found["events"]["printed"] > 0 and found["over_time"][0]["load_1min"] >= 0
