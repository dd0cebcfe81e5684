"""Names of files: those that are not UTF-8, FFmpeg's special characters, line breaks; what is shown of them."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import openvino
import pytest
import tiny_models
from conftest import ROOT
from test_edge_outputs import refused
from videos import values, write

import edge
from edge.__main__ import main
from edge.app import outputs
from edge.app.faces import FaceFinder
from edge.errors import ModelError, UserError, reason, shown
from edge.inference.modelfile import write_model
from edge.inference.names import taken

BAD = "pr\udcfcf"  # the byte 0xFC, "ü" in Latin-1
ODD = [BAD, "10:30", "100%d", "%04d", "a\nb", "\u202eü", "a b", "-x", "http:", "\udcff\udc80"]
random = np.random.default_rng(31)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model folder of each runtime, by its format."""
    root = tmp_path_factory.mktemp("models")
    for name, kind in (("tflite", "int8"), ("onnx", "onnx")):
        shutil.copytree(tiny_models.build() / kind, root / name)
    (root / "openvino").mkdir()
    network = openvino.convert_model(root / "onnx/model.onnx")
    openvino.save_model(network, root / "openvino/model.xml", compress_to_fp16=False)
    raw = json.loads((root / "onnx/model.json").read_text())
    write_model(root / "openvino", {**raw, "file": "model.xml", "format": "openvino"})
    return root


def image():
    return np.random.default_rng(2).integers(0, 256, (16, 16, 3), dtype=np.uint8)


# models


@pytest.mark.parametrize("format", ["tflite", "onnx", "openvino"])
@pytest.mark.parametrize("where", ["folder", "file", "both"])
def test_a_model_of_any_name_gives_the_same_score(models, here, format, where):
    folder = here / (BAD if where != "file" else "model")
    shutil.copytree(models / format, folder)
    if where != "folder":
        for path in set(folder.iterdir()) - {folder / "model.json"}:
            path.rename(path.with_stem(BAD))
        raw = json.loads((folder / "model.json").read_text())
        write_model(folder, {**raw, "file": raw["file"].replace("model", BAD)})
    assert edge.predict(folder, image()).score == edge.predict(models / format, image()).score
    assert edge.predict(folder.relative_to(here), image()).score == edge.predict(models / format, image()).score


@pytest.mark.parametrize("format", ["tflite", "onnx", "openvino"])
def test_the_error_names_the_file_and_not_a_link(models, here, format):
    folder = shutil.copytree(models / format, here / BAD)
    raw = json.loads((folder / "model.json").read_text())
    (folder / raw["file"]).write_bytes(b"no model")
    write_model(folder, raw)
    with pytest.raises(ModelError, match="not a model that") as caught:
        edge.load(folder)
    line = str(caught.value)
    assert line.startswith(f"{here}/pr\\udcfcf/{raw['file']}: ") and "edge-vision-" not in line and "\n" not in line


# a name for libraries


def test_a_name_that_is_utf8_is_only_made_no_address(here):
    for name, expected in (("a.mp4", "./a.mp4"), ("10:30.mp4", "./10:30.mp4"), ("/x/10:30.mp4", "/x/10:30.mp4")):
        with taken(name) as found:
            assert found == expected


@pytest.mark.parametrize("name", [f"{BAD}/a.bin", f"{BAD}.bin", f"a.{BAD}", f"{BAD}/{BAD}/{BAD}"])
def test_another_name_leads_to_the_file_and_is_gone_afterwards(here, name):
    path = here / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"content")
    with taken(name) as found:
        assert found.encode() and Path(found).read_bytes() == b"content"
    assert not os.path.lexists(found) and path.read_bytes() == b"content"
    with pytest.raises(UserError, match=r"udcfc.*: wrong") as caught, taken(name) as found:
        raise UserError(f"{found}: wrong")
    assert found not in str(caught.value)


def test_where_no_link_can_be_made_one_line_says_so(here, monkeypatch):
    for folder, message in ((here / "none", "no link to it can be made"), (here / BAD, "neither is the folder")):
        if folder.name == BAD:
            folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with pytest.raises(UserError, match=message), taken(BAD):
            pass


# video


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_video_in_and_out_of_any_name(models, here, name, suffix):
    write(here / "in.avi", range(0, 200, 10)).rename(here / f"{name}.avi")
    (here / "out").mkdir()
    for folder, options in (("", []), ("out/", ["--segment", str(10 / 25 / 60)])):
        output = f"{folder}{name}{suffix}" if folder else f"new {name}{suffix}"
        assert main(["video", str(models / "tflite"), f"--output={output}", *options, "--", f"{name}.avi"]) == 0
    (here / "film.avi").write_bytes((here / f"new {name}{suffix}").read_bytes())
    assert len(values(here / "film.avi")) == 20
    assert set(os.listdir(here / "out")) == {f"{name}-0000{suffix}", f"{name}-0001{suffix}"}


def test_a_file_address_with_bytes_that_are_not_utf8(models, here):
    write(here / "in.avi", range(0, 200, 20)).rename(here / f"{BAD}.avi")
    with edge.stream(models / "tflite", f"file://{here}/pr%fcf.avi") as frames:
        assert len(list(frames)) == 10


def test_an_address_that_is_not_utf8_is_one_line(models, capsys):
    refused(capsys, ["video", models / "tflite", f"rtsp://127.0.0.1:9/{BAD}"], "an address must be UTF-8")


# pictures and their overlays


def test_overlays_of_any_name(models, here, capsys):
    (here / "in").mkdir()
    plain = here / "plain.png"
    cv2.imwrite(str(plain), random.integers(0, 255, (20, 20, 3), dtype=np.uint8))
    for name in ODD:
        shutil.copy(plain, here / "in" / f"{name}.png")
    for _ in range(2):  # they are known as overlays again
        assert main(["predict", str(models / "tflite"), "in", "--overlay", f"{BAD}/out"]) == 0
    drawn = sorted(os.listdir(here / BAD / "out"))
    assert drawn == sorted(f"{name}.png" for name in ODD)
    assert all(outputs.is_overlay(here / BAD / "out" / name) for name in drawn)
    assert len(capsys.readouterr().out.splitlines()) == 2 * len(ODD)


@pytest.mark.assets
def test_a_face_model_of_any_name(assets, here):
    shutil.copy(assets / "weights/yunet/face_detection_yunet_n_320.onnx", here / f"{BAD}.onnx")
    assert FaceFinder(f"{BAD}.onnx")(np.zeros((64, 64, 3), np.uint8)).shape == (0, 5)


def test_no_name_reaches_opencv_without_a_detour():
    """OpenCV 5 ends the process at a name that is not UTF-8: only its functions on memory, or inside `taken`."""
    for path in (ROOT / "edge").rglob("*.py"):
        assert not {"cv2.imread", "cv2.imwrite", "cv2.imcount"} & set(path.read_text().replace("(", " ").split()), path


# what is shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("pr\udcfcf.png", r"pr\udcfcf.png"),
        ("a\nb\r\t\x1b[31m", r"a\nb\r\t\x1b[31m"),
        ("ü 漢字 😀", "ü 漢字 😀"),
        ("\u202egnp", r"\u202egnp"),
        ("", ""),
    ],
)
def test_a_name_is_shown_on_one_line(text, line):
    assert shown(text) == line and str(UserError(text)) == line


def test_the_reason_of_an_error_is_its_own():
    """OpenCV keeps what the last error of any thread said in an attribute of the class."""
    found = []
    for size in ((0, 5), (-1, 3)):
        with pytest.raises(cv2.error) as caught:
            cv2.resize(np.zeros((4, 4), np.uint8), size)
        found.append(caught.value)
    with pytest.raises(cv2.error):
        cv2.cvtColor(np.zeros((2, 2, 9), np.uint8), cv2.COLOR_RGB2BGR)
    for error in found:
        line = reason(error)
        assert "\n" not in line and "inv_scale_x > 0" in line and ".cpp" not in line and "OpenCV(" not in line
    assert reason(MemoryError()) == "not enough memory" and reason(KeyError()) == "KeyError"
    assert reason(RuntimeError("two\n lines " + "x" * 999)) == ("two lines " + "x" * 999)[:200]


STREAMS = [
    {"PYTHONIOENCODING": "ascii:strict"},
    {"PYTHONIOENCODING": "utf-8:strict"},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
]


@pytest.mark.slow
@pytest.mark.parametrize("environment", STREAMS)
@pytest.mark.parametrize("form", ["", "--csv", "--json"])
def test_every_stream_takes_every_name(models, here, environment, form):
    """The rows of good pictures, and the line of a broken one, on streams that take ASCII or nothing odd."""
    names = [f"{BAD}.png", "ü.png", "a\nb.png"]
    cv2.imwrite(str(here / "plain.png"), random.integers(0, 255, (20, 20, 3), dtype=np.uint8))
    (here / "in").mkdir()
    for name in names:
        shutil.copy(here / "plain.png", here / "in" / name)
    (here / "in" / f"{BAD}.jpg").write_bytes(b"broken")
    command = [sys.executable, "-m", "edge", "predict", models / "tflite", "in", *form.split()]
    everywhere = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LC_", "LANG"))}
    done = subprocess.run(
        command, cwd=here, env={**everywhere, "PYTHONPATH": str(ROOT), **environment}, capture_output=True
    )
    errors = [line for line in done.stderr.decode().splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and errors == [r"error: in/pr\udcfcf.jpg: not a readable picture; replace or remove it"]
    assert b"Traceback" not in done.stderr
    rows = rows_of(done.stdout.decode(), form)
    if form == "--json":
        assert [os.fsencode(row) for row in rows] == sorted(os.fsencode(f"in/{name}") for name in names)
    else:
        assert len(rows) == 3 and r"in/pr\udcfcf.png" in rows


def rows_of(printed: str, form: str) -> list[str]:
    """The paths in what `predict` printed."""
    if form == "--json":
        return [row["path"] for row in json.loads(printed)]
    if form == "--csv":
        return [row["path"] for row in csv.DictReader(io.StringIO(printed))]
    return [line.split()[0] for line in printed.splitlines()]
