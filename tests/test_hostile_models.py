"""Model folders from anywhere: whatever stands in a model.json or a model file, one line names it."""

import copy
import json
import os
import random
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tiny_models
from conftest import ROOT
from test_edge_samples import SIZE, grey, save
from test_modelfile import MAPPING

import edge
from edge.__main__ import main
from edge.errors import ModelError
from edge.inference.jsonfile import DEEPEST, MOST_BYTES, depth
from edge.inference.modelfile import open_model

HUGE = 10**400
VALUES = [  # of every kind that JSON has, at the edges of what numbers and names can be
    *(True, False, None, 0, 1, -1, 2, 3, 0.5, -0.0, HUGE, -HUGE, 2**63, 2**31, 10**9, 1e308, 1e-320, 1e9),
    *(float("inf"), float("nan"), "", "x", "\udcfc", "\ud800", "a\0b", "a\nb", "é" * 300, "../x", "/etc/passwd"),
    *([], [1], [True], [[]], {}, {"a": 1}, [{}], 255, 256, 1000, 1001),
]


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(tiny_models.build() / "int8", tmp_path / "model")


def raw_of(folder):
    raw = json.loads((folder / "model.json").read_text())
    return {**raw, "edgetpu": MAPPING, "validation": {"auroc": 0.9, "good": 3, "cutpaste": 3}}


def changed(raw, keys, value):
    """The JSON with another value at `keys`; the value itself where there are none."""
    if not keys:
        return value
    raw = at = copy.deepcopy(raw)
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    return raw


def places(value, keys=()):
    """The keys of every value in a JSON object, its own first."""
    yield keys
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, nested in inside:
        yield from places(nested, (*keys, key))


# fields


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["threshold", "value"], HUGE, r"threshold\.value = 10000\d*\.\.\.: must be a finite number"),
        (["threshold", "value"], True, r"threshold\.value = True: must be a finite number"),
        (["input", "scale"], HUGE, r"input\.scale = 1000"),
        (["input", "height"], HUGE, r"must be a whole number of at least 1 and at most 9223372036854775807"),
        (["cost", "macs"], HUGE, r"cost\.macs = 1000"),
        (
            ["score", "sigma"],
            1e9,
            r"score\.sigma = 1000000000\.0: must be a finite number of at least 0 and at most 1000",
        ),
        (["score", "smooth"], 10**9 + 1, r"score\.smooth = 1000000001: must be a whole number .* at most 255"),
        (["score", "smooth"], True, r"score\.smooth = True: must be a whole number"),
        (["outputs", 0, "channels"], True, r"outputs\.0\.channels = True: must be a whole number"),
        (["outputs", 0, "zero_point"], False, r"outputs\.0\.zero_point = False"),
        (["schema"], True, "schema = True: must be 2"),
        (["schema"], 2.0, r"schema = 2\.0: must be 2"),
        (["validation", "auroc"], 2, r"validation\.auroc = 2: must be .* at most 1"),
        (["edgetpu"], "x", "edgetpu = 'x': must be an object"),
        (["edgetpu"], [], r"edgetpu = \[\]: must be an object"),
        (["edgetpu"], True, "edgetpu = True: must be an object"),
        (["files"], [["a"] * 1000], r"files = .{80}\.\.\.: must be an object"),
        (["a\nb"], 1, r"a\\nb: unknown field"),
    ],
)
@pytest.mark.parametrize("delegate", [None, "edgetpu"])
def test_a_value_that_a_field_cannot_have(folder, keys, value, message, delegate):
    (folder / "model.json").write_text(json.dumps(changed(raw_of(folder), keys, value)))
    with pytest.raises(ModelError, match=message) as caught:
        edge.load(folder, 1, delegate)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("key", ["scale", "zero_point"])
def test_true_is_no_number_of_a_float_tensor(tmp_path, key):
    folder = shutil.copytree(tiny_models.build() / "float", tmp_path / "model")
    raw = raw_of(folder)
    for value, fine in ((None, True), ({"scale": 1, "zero_point": 0}[key], True), (key == "scale", False)):
        (folder / "model.json").write_text(json.dumps(changed(raw, ["outputs", 0, key], value)))
        if fine:
            assert open_model(folder).outputs[0].scale == 1
        else:
            with pytest.raises(ModelError, match=rf"outputs\.0\.{key} = (True|False): must be null or"):
                open_model(folder)


@pytest.mark.parametrize("shape", [[True], [1, True], [1, 16, 16, HUGE], [1.0], ["1"], [-1], []])
def test_a_state_has_a_shape_of_whole_numbers(folder, shape):
    state = {"input": "a", "output": "b", "shape": shape, "dtype": "float32", "scale": None, "zero_point": None}
    (folder / "model.json").write_text(json.dumps({**raw_of(folder), "state": [state]}))
    with pytest.raises(ModelError, match=r"state\.0\.shape = .*: must be a list of whole numbers above 0"):
        open_model(folder)


def test_a_clip_whose_frames_do_not_fit_into_memory(tmp_path):
    shape = [1, 1, SIZE, SIZE]
    folder = save(
        tmp_path / "model",
        [("Conv", ["clip", "kernel"], ["map"])],
        {"clip": [1, 4, SIZE, SIZE]},
        {"map": shape},
        [("kernel", np.ones((1, 4, 1, 1), np.float32))],
        input=grey(),
    )
    raw = json.loads((folder / "model.json").read_text())
    for step, fine in ((1000, True), (10**7, False), (2**62, False), (HUGE, False)):
        (folder / "model.json").write_text(json.dumps(changed(raw, ["input", "step"], step)))
        if fine:
            assert open_model(folder).input.step == step
        else:
            with pytest.raises(ModelError, match=r"input\.step = 1000|input\.step = 4611"):
                open_model(folder)


@pytest.mark.slow
def test_any_value_anywhere_is_taken_or_refused_in_one_line(tmp_path, capsys, monkeypatch):
    """Three hundred folders drawn from all places and values: info, predict and video each end in order."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("in.png", np.zeros((20, 20, 3), np.uint8))
    draw = random.Random(18)
    for kind in ("int8", "onnx"):
        folder = shutil.copytree(tiny_models.build() / kind, tmp_path / kind)
        raw = raw_of(folder)
        cases = [(keys, value) for keys in places(raw) for value in VALUES]
        for keys, value in draw.sample(cases, 150):
            (folder / "model.json").write_text(json.dumps(changed(raw, keys, value)))
            for command in (["info", kind], ["info", kind, "--json"], ["predict", kind, "in.png", "--overlay", "out"]):
                code = main(command)
                out, err = capsys.readouterr()
                errors = [line for line in err.splitlines() if line.startswith("error: ")]
                assert (code, len(errors), bool(out)) in ((0, 0, True), (1, 1, False)), (keys, value, err)
                assert "Warning" not in err and all(len(line) < 700 for line in errors)


# the file


def test_nesting_is_counted_outside_of_strings():
    for text, deepest in (
        ("", 0), ("1", 0), ("[]", 1), ('{"a": [[1], {"b": []}]}', 4), ('"[[["', 0), (r'["\"[[", []]', 2), ('["[', 1),
        ("]]][", 1), ('["\\', 1), ('{"[": "\\\\"}[[', 2),
    ):  # fmt: skip
        assert depth(text) == deepest, text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, f"nested more than {DEEPEST} deep"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, f"nested more than {DEEPEST} deep"),
        ("[" * 60 + "]" * 60, "the file = .*: must be an object"),
        ('"' + '\\"' * 1_000_000, "not valid JSON: Unterminated string"),  # counted in one pass
        ('"' + "\\" * 1_000_001, "not valid JSON: Unterminated string"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON: a whole number of 5000 digits"),
        ("[" + "1," * (MOST_BYTES // 2) + "1]", "more than 4 MiB"),
        ("t\udcfc", "not UTF-8: byte 1 is 0xfc"),
        ("\ufeff{}", "not valid JSON: Unexpected UTF-8 BOM"),
        ("\0" * 50, "not valid JSON"),
    ],
)
def test_a_file_that_no_parser_should_see(folder, text, message):
    (folder / "model.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ModelError, match=rf"model\.json: {message}") as caught:
        open_model(folder)
    assert "\n" not in str(caught.value)


def test_nesting_ends_nothing_where_a_library_lifted_the_limit(folder):
    """onnx2tf does, and json's own recursion would then end the process."""
    (folder / "model.json").write_text("[" * 1_000_000)
    code = (
        "import sys\nsys.setrecursionlimit(2**31 - 1)\nfrom edge.__main__ import main\n"
        f"sys.exit(main(['info', {str(folder)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "nested more than" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("pipe", "model.json: not a regular file"),
        ("device", "model.json: not a regular file"),
        ("folder", "model.json: can't be read: Is a directory"),
        ("loop", "model.json: can't be read: Too many levels of symbolic links"),
        ("model pipe", "model.tflite: not a regular file, although .* lists it"),
        ("deep", "its folders lie too deep in each other"),
    ],
)
def test_what_else_may_lie_in_a_folder(folder, what, message):
    path = folder / ("model.tflite" if what == "model pipe" else "model.json")
    if what != "deep":
        path.unlink()
    if what in ("pipe", "model pipe"):
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path.name)
    else:
        nest(folder, 1200)
    try:
        with pytest.raises(ModelError, match=message):
            open_model(folder)
    finally:
        subprocess.run(["rm", "-rf", folder / "d"], check=True)


def nest(folder, count):
    """So many folders in each other, deeper than the longest path."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(count):
        os.mkdir("d", dir_fd=at)
        inside = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inside
    os.close(at)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "no such model folder"),
        ("file", "not a folder; give the one that holds model.json"),
        ("file/x", "can't be opened: Not a directory"),
        ("x" * 300, "can't be opened: File name too long"),
        ("\ud800", "no such model folder"),
        ("a\0b", "no such model folder"),
    ],
)
def test_a_folder_that_is_none(here, name, message):
    (here / "file").write_text("")
    with pytest.raises(ModelError, match=message):
        edge.load(name)
