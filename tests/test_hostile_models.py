"""Model folders from anywhere: whatever stands in a model.json or a model file, one line names it."""

import copy
import json
import os
import random
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
import tiny_models
from conftest import ROOT
from onnx import TensorProto, helper
from test_edge_outputs import refused
from test_edge_samples import MAP, SIZE, grey, save
from test_modelfile import MAPPING

import edge
from edge.__main__ import main
from edge.errors import ModelError
from edge.inference import formats
from edge.inference.jsonfile import DEEPEST, MOST_BYTES, depth
from edge.inference.modelfile import open_model, write_model
from edge.inference.runtimes import FORMATS

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


# what runs it


@pytest.mark.parametrize("kind", ["int8", "float", "onnx"])
def test_a_tensor_whose_name_is_not_utf8(tmp_path, kind):
    folder = shutil.copytree(tiny_models.build() / kind, tmp_path / "model")
    raw = json.loads((folder / "model.json").read_text())
    path = folder / raw["file"]
    names = (b"serving_default_x:0", b"image")
    path.write_bytes(re.sub(b"|".join(names), lambda found: found[0][:-1] + b"\xfc", path.read_bytes()))
    write_model(folder, raw)
    with pytest.raises(ModelError, match=rf"{path.name}: the name of a tensor is not UTF-8; export the model again"):
        edge.load(folder)


@pytest.mark.parametrize("kind", ["int8", "onnx"])
@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_model_file_is_one_line(tmp_path, kind, seed):
    """Cut off, so that no runtime can take it; the sha256 is right."""
    folder = shutil.copytree(tiny_models.build() / kind, tmp_path / "model")
    raw = json.loads((folder / "model.json").read_text())
    path = folder / raw["file"]
    data = path.read_bytes()
    path.write_bytes(data[: random.Random(seed).randrange(len(data) // 2)])
    write_model(folder, raw)
    with pytest.raises(ModelError) as caught:
        edge.load(folder)
    assert "\n" not in str(caught.value)


def test_a_runtime_that_fails_while_it_runs_is_one_line(tmp_path, capsys):
    """Indices that only the sample decides: onnxruntime raises its own class."""
    shape = [1, 1, SIZE, SIZE]
    nodes = [
        helper.make_node("Cast", ["frame"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "whole"], ["map"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("frame", "map")]
    table = helper.make_tensor("table", TensorProto.FLOAT, [1], [0.0])
    graph = helper.make_graph(nodes, "gather", values[:1], values[1:], [table])
    folder = tmp_path / "model"
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    info = tiny_models.describe("model.onnx", "onnx", "float32", "nchw", None)
    write_model(folder, {**info, "outputs": [MAP], "input": grey(1), "score": {"rule": "max", "smooth": 1, "sigma": 0}})
    for name, value in (("dark", 0), ("bright", 255)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((20, 20, 3), value, np.uint8))
    assert main(["predict", str(folder), str(tmp_path / "dark.png")]) == 0
    capsys.readouterr()
    refused(capsys, ["predict", folder, tmp_path / "bright.png"], "model.onnx: onnxruntime failed: ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_is_no_verdict(tmp_path, value):
    """nan is not above any threshold, and would pass for good."""
    shape = [1, 1, SIZE, SIZE]
    folder = save(
        tmp_path / "model",
        [("Add", ["frame", "broken"], ["map"])],
        {"frame": shape},
        {"map": shape},
        [("broken", np.float32(value))],
        input=grey(1),
    )
    with pytest.raises(ModelError, match=r"model\.onnx: the score of a sample is -?(nan|inf)"):
        edge.predict(folder, np.zeros((SIZE, SIZE, 1), np.uint8))


@pytest.mark.parametrize(
    "sample", [np.zeros((0, 5, 3), np.uint8), np.zeros(3, np.uint8), np.zeros((2, 2, 3, 1), np.uint8)]
)
def test_a_sample_that_is_no_picture(sample):
    with pytest.raises(ValueError, match=r"sample is uint8 \[.*: must be uint8 \[H, W\]"):
        edge.predict(tiny_models.build() / "float", sample)


@pytest.mark.parametrize("error", [ImportError("libx.so: cannot\nopen"), AttributeError("no _ARRAY_API"), OSError("x")])
def test_a_runtime_that_is_installed_and_broken_is_not_called_missing(monkeypatch, error):
    def broken(_):
        raise error

    monkeypatch.setattr(formats.importlib, "import_module", broken)
    with pytest.raises(ModelError, match="ai-edge-litert is installed but can't be imported: ") as caught:
        FORMATS["tflite"].library()
    assert "\n" not in str(caught.value)


def test_a_missing_edge_tpu_library_is_one_line_and_nothing_more(folder):
    """The half-made delegate raises an AttributeError in its __del__, of which Python prints a traceback."""
    (folder / "model_edgetpu.tflite").write_bytes(b"compiled")
    write_model(folder, {**raw_of(folder), "edgetpu": {**MAPPING, "file": "model_edgetpu.tflite"}})
    command = [sys.executable, "-m", "edge", "bench", folder, "--delegate", "edgetpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: edgetpu: libedgetpu.so.1 can't be used: libedgetpu.so.1: cannot open")
    assert "sudo apt install libedgetpu1-std" in done.stderr


@pytest.mark.parametrize("format", ["int8", "onnx"])
@pytest.mark.parametrize("threads", [0, -1, 1025, 999_999_999_999, 10**30])
def test_numbers_of_threads(format, threads):
    with pytest.raises(ModelError, match=f"threads = {threads}: must be at (least 1|most 1024)"):
        edge.load(tiny_models.build() / format, threads)
