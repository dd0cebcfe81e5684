"""Examples that `edge learn-type` adds to a catalogue, and what `predict` and `video` say with one."""

import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import typed_models
from conftest import ROOT
from safetensors.numpy import load_file
from test_catalogue import changed

import edge
from edge.__main__ import main
from edge.defects import catalogue, files


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return typed_models.write(tmp_path_factory.mktemp("typed") / "model")


@pytest.fixture
def known(model, tmp_path):
    return typed_models.make_catalogue(tmp_path / "catalogue", model)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def test_an_example_is_learned_without_training(known, tmp_path, capsys):
    yellow = np.zeros((16, 16, 3), np.uint8)
    yellow[4:9, 4:9] = (230, 230, 0)
    picture = save(tmp_path / "in/new.png", yellow)
    before = (known / "vectors.safetensors").read_bytes()
    assert main(["learn-type", str(known), str(picture), "yellow", "--line", "3"]) == 0
    assert "13 examples, 1 of type yellow" in capsys.readouterr().out
    assert (known / "vectors.safetensors").read_bytes() != before
    found = catalogue.open_catalogue(known)
    assert found.points[-1].line == "3" and found.points[-1].time.endswith("Z")
    assert load_file(known / "vectors.safetensors")["vectors"].shape == (13, 6)
    (thumbnail,) = (known / "thumbnails").iterdir()
    assert found.points[-1].thumbnail == thumbnail.name and thumbnail.stat().st_size > 100
    verdict = edge.load(known / "model", types=known).predict(yellow).type
    assert verdict.nearest[0].type == "yellow" and verdict.distance < 1e-3
    assert not list(known.glob(".*.part")) and not (known / "pending").exists()


def test_what_else_is_known_of_the_points_survives(known, tmp_path):
    """Such as that somebody corrected a type in a store."""
    more = b'{"corrected": true, "shift": {"a": [1, null]}, "thumbnail": "a.jpg", '
    changed(known, "points.jsonl", lambda content: content.replace(b"{", more, 1))
    before = [json.loads(line) for line in (known / "points.jsonl").read_text().splitlines()]
    picture = save(tmp_path / "in/new.png", typed_models.spot("red", 3)[0])
    assert main(["learn-type", str(known), str(picture), "red"]) == 0
    after = [json.loads(line) for line in (known / "points.jsonl").read_text().splitlines()]
    assert after[:-1] == before and before[0]["corrected"] and "corrected" not in after[-1]


def test_a_box_says_where(known, tmp_path):
    image = typed_models.spot("red", 3)[0]
    image[0:4, 12:16] = (0, 0, 250)
    picture = save(tmp_path / "in/new.png", image)
    assert main(["learn-type", str(known), str(picture), "blue", "--box", "12,0,4,4"]) == 0
    found = catalogue.open_catalogue(known)
    assert found.points[-1].box == (12, 0, 4, 4)
    cell = edge.load(known / "model").predict(image).embedding[0, 3]  # the box is the fourth cell of the first row
    np.testing.assert_allclose(found.vectors[-1], cell / np.linalg.norm(cell), atol=1e-5)


@pytest.mark.parametrize("box", ["1,2,3", "0,0,0,4", "14,0,4,4", "-1,0,4,4", "a,b,c,d", "99999999999,0,1,1"])
def test_a_box_outside_is_refused(known, box, tmp_path, capsys):
    picture = save(tmp_path / "in/new.png", typed_models.spot("red", 3)[0])
    assert main(["learn-type", str(known), str(picture), "blue", f"--box={box}"]) == 1
    assert "must be X,Y,W,H in the picture of 16 x 16" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["unknown", "good", "", " ", "a\nb"])
def test_what_is_no_type_is_refused(known, kind, tmp_path, capsys):
    picture = save(tmp_path / "in/new.png", typed_models.spot("red", 3)[0])
    before = {path.name: path.read_bytes() for path in known.iterdir() if path.is_file()}
    assert main(["learn-type", str(known), str(picture), kind]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in known.iterdir() if path.is_file()} == before


def test_two_writers_get_a_line(known, tmp_path, capsys):
    picture = save(tmp_path / "in/new.png", typed_models.spot("red", 3)[0])
    with files.locked(known):
        assert main(["learn-type", str(known), str(picture), "red"]) == 1
    assert "another process adds to this catalogue" in capsys.readouterr().err
    assert main(["learn-type", str(known), str(picture), "red"]) == 0


@pytest.mark.parametrize("dies_at", range(6))
def test_a_writer_that_dies_leaves_all_or_nothing(known, dies_at, tmp_path, monkeypatch):
    """Killed at every rename in turn: what is read is the state before or the one after, and the next one mends it."""
    picture = save(tmp_path / "in/new.png", typed_models.spot("red", 3)[0])
    real, calls = os.replace, []

    class Killed(BaseException):
        pass

    def replace(*arguments):
        calls.append(arguments)
        if len(calls) > dies_at:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(Killed):
        main(["learn-type", str(known), str(picture), "red"])
    monkeypatch.undo()
    kept = len(catalogue.open_catalogue(known).points)
    assert kept == (12 if dies_at < 2 else 13)  # the first is the thumbnail's, the second makes `pending` appear
    assert main(["learn-type", str(known), str(picture), "red"]) == 0
    assert len(catalogue.open_catalogue(known).points) == kept + 1
    assert not (known / "pending").exists()


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_acknowledged(known, tmp_path):
    picture = save(tmp_path / "in/new.png", typed_models.spot("red", 3)[0])
    told = 0
    for delay in (0.25, 0.4, 0.55, 0.7, 1.5):
        process = subprocess.Popen(
            [sys.executable, "-m", "edge", "learn-type", known, picture, "red"], cwd=ROOT, stdout=subprocess.PIPE
        )
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.kill()
        told += b"examples" in process.communicate()[0]
        assert 12 + told <= len(catalogue.open_catalogue(known).points) <= 12 + 5


# the commands


def test_predict_tells_types(known, model, tmp_path, capsys):
    for kind in (*typed_models.COLOURS, "good"):
        save(tmp_path / f"in/{kind}.png", typed_models.spot(kind, 50)[0])
    command = ["predict", str(model), str(tmp_path / "in"), "--types", str(known)]
    assert main([*command, "--json", "--overlay", str(tmp_path / "out")]) == 0
    rows = {os.path.basename(row["path"]).split(".")[0]: row for row in json.loads(capsys.readouterr().out)}
    for kind in typed_models.COLOURS:
        assert rows[kind]["type"] == kind and next(iter(rows[kind]["votes"])) == kind
        assert rows[kind]["nearest"][0]["picture"].startswith(f"{kind}/")
        assert 0 <= rows[kind]["distance"] <= 0.5
    assert rows["good"]["type"] is None
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    assert main([*command, "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "path,score,verdict,type" and any(line.endswith("defect,red") for line in lines)
    assert main(command) == 0
    assert "defect  red (" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "out")
    assert main(["predict", str(model), str(tmp_path / "in"), "--json"]) == 0
    assert all("type" not in row for row in json.loads(capsys.readouterr().out))


def test_a_wrong_catalogue_is_a_line(model, tmp_path, capsys):
    picture = save(tmp_path / "in/red.png", typed_models.spot("red", 3)[0])
    for folder in (tmp_path / "none", tmp_path / "in", picture):
        assert main(["predict", str(model), str(picture), "--types", str(folder)]) == 1
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and "catalogue" in said
        assert main(["learn-type", str(folder), str(picture), "red"]) == 1
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and "catalogue" in said


def test_video_tells_types(known, model, tmp_path, capsys):
    frames = [typed_models.spot(kind, 50, 32)[0] for kind in ("red", "red", "good", "blue")]
    enlarged = [cv2.resize(frame, (64, 64), interpolation=cv2.INTER_NEAREST) for frame in frames]
    path = tmp_path / "in.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for frame in enlarged:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    assert main(["video", str(model), str(path), "--types", str(known), "--csv"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert rows[0][-1] == "type" and [row[-1] for row in rows[1:5]] == ["red", "red", "", "blue"]
    assert (
        main(["video", str(model), str(path), "--types", str(known), "--json", "--output", str(tmp_path / "o.avi")])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["types"] == {"red": 2, "blue": 1}
    assert main(["video", str(model), str(path), "--json"]) == 0
    assert "types" not in json.loads(capsys.readouterr().out)
