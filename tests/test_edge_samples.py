"""Clips of grey frames, networks with state and more outputs: small ones against numpy, and video through them."""

import json
import shutil

import cv2
import numpy as np
import onnx
import openvino
import pytest
import tiny_models
from onnx import TensorProto, helper, numpy_helper
from videos import write

import edge
from edge import preprocess
from edge.__main__ import main
from edge.errors import ModelError
from edge.inference import detector as detectors
from edge.inference.formats import Tensor
from edge.inference.modelfile import write_model
from edge.inference.timing import noise

random = np.random.default_rng(21)
SIZE, FRAMES = 16, 4
FLOAT32 = {"dtype": "float32", "scale": 1.0, "zero_point": 0}
MAP = {"name": "map", "meaning": "map", "height": SIZE, "width": SIZE, "channels": 1, **FLOAT32}


def save(folder, nodes, taken, returned, constants, **fields):
    """An ONNX model folder: tensors are name -> shape, `fields` those of model.json."""

    def values(tensors):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in tensors.items()]

    folder.mkdir()
    kept = [numpy_helper.from_array(value, name) for name, value in constants]
    nodes = [helper.make_node(*node) for node in nodes]
    graph = helper.make_graph(nodes, "small", values(taken), values(returned), kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    info = tiny_models.describe("model.onnx", "onnx", "float32", "nchw", None)
    score = {"rule": "max", "smooth": 1, "sigma": 0}
    write_model(folder, {**info, "outputs": [MAP], "score": score, **fields})
    return folder


def grey(frames=FRAMES, step=1):
    spec = tiny_models.describe("", "", "float32", "nchw", None)["input"]
    return {**spec, "color": "grey", "frames": frames, "step": step}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The map is |now - first frame of the clip|, the embedding holds all frames."""
    axes = [("one", np.array([1])), ("first", np.array([0])), ("last", np.array([FRAMES - 1])), ("end", np.array([9]))]
    nodes = [
        ("Slice", ["clip", "first", "one", "one"], ["then"]),
        ("Slice", ["clip", "last", "end", "one"], ["now"]),
        ("Sub", ["now", "then"], ["difference"]),
        ("Abs", ["difference"], ["map"]),
        ("Identity", ["clip"], ["places"]),
    ]
    shape = [1, FRAMES, SIZE, SIZE]
    embedding = {**MAP, "name": "places", "meaning": "embedding", "channels": FRAMES}
    return save(
        tmp_path_factory.mktemp("clips") / "model",
        nodes,
        {"clip": shape},
        {"places": shape, "map": [1, 1, SIZE, SIZE]},
        axes,
        input=grey(step=3),
        outputs=[MAP, embedding],
    )


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    """A network with state: the map is |frame - memory|, and the memory becomes half of it plus the frame."""
    nodes = [
        ("Sub", ["frame", "memory"], ["difference"]),
        ("Abs", ["difference"], ["map"]),
        ("Mul", ["memory", "half"], ["faded"]),
        ("Add", ["faded", "frame"], ["next"]),
    ]
    shape = [1, 1, SIZE, SIZE]
    state = {"input": "memory", "output": "next", "shape": shape, **FLOAT32}
    return save(
        tmp_path_factory.mktemp("memory") / "model",
        nodes,
        {"memory": shape, "frame": shape},  # the sample is not the first input
        {"next": shape, "map": shape},
        [("half", np.float32(0.5))],
        input=grey(1),
        state=[state],
    )


def frames(count, height=SIZE, width=SIZE):
    return random.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


# samples


def test_grey_is_the_luma_and_keeps_grey_pictures():
    image = frames(1)[0]
    luma = image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(preprocess.to_grey(image) - luma).max() <= 0.51
    even = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert np.array_equal(preprocess.to_grey(even), even[..., 0])


def test_a_sample_is_the_last_picture_or_all_in_grey():
    pictures = frames(3)
    assert np.array_equal(preprocess.to_sample(pictures, "rgb"), pictures[-1])
    clip = preprocess.to_sample(pictures, "grey")
    assert clip.shape == (SIZE, SIZE, 3) and clip.dtype == np.uint8
    assert np.array_equal(clip[..., 2], preprocess.to_grey(pictures[2]))


@pytest.mark.parametrize("size", [(200, 90), (40, 33), (64, 64), (16, 16), (7, 300)])
def test_frames_are_resized_alike_alone_in_a_clip_and_as_channels(size):
    """OpenCV itself takes four channels at most; RGB goes through it at once, with the same values."""
    clip = random.integers(0, 256, (*size, 9), dtype=np.uint8)
    found = preprocess.resize(clip, 32, 24)
    assert found.shape == (32, 24, 9)
    for i in range(9):
        assert np.array_equal(found[..., i], preprocess.resize(clip[..., i], 32, 24))
    assert np.array_equal(preprocess.resize(clip[..., :3], 32, 24), found[..., :3])
    assert preprocess.resize(clip[..., :1], 32, 24).shape == (32, 24, 1)


def test_the_ring_repeats_the_first_frame_until_enough_were_seen():
    ring, seen = preprocess.Ring(3, 2), []
    for value in range(7):
        ring.push(np.full((1, 1), value))
        seen.append(ring.sample().ravel().tolist())
    assert seen == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 3], [0, 2, 4], [1, 3, 5], [2, 4, 6]]


@pytest.mark.parametrize(("value", "found"), [(0, False), (1, True), (255, True)])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_mask_is_what_is_not_zero_in_any_channel(tmp_path, value, found, channel):
    mask = np.zeros((5, 6, 3), np.uint8)
    mask[1, 2, channel] = value
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    read = preprocess.read_mask(tmp_path / "mask.png")
    assert read.dtype == bool and read.shape == (5, 6) and read[1, 2] == found and read.sum() == found


# clips


def test_a_clip_becomes_map_and_embedding(clips):
    detector = edge.load(clips)
    clip = random.integers(0, 256, (SIZE, SIZE, FRAMES), dtype=np.uint8)
    found = detector.predict(clip)
    expected = np.abs(clip[..., -1].astype(float) - clip[..., 0]) / 255
    np.testing.assert_allclose(found.map, expected, atol=1e-6)
    assert found.score == pytest.approx(expected.max(), abs=1e-6)
    assert found.embedding.dtype == np.float32
    np.testing.assert_allclose(found.embedding, clip / 255, atol=1e-6)
    large = random.integers(0, 256, (50, 70, FRAMES), dtype=np.uint8)
    assert detector.predict(large).score == detector.judge(preprocess.resize(large, SIZE, SIZE)).score
    with pytest.raises(ValueError, match=r"sample is uint8 \[16, 16, 3\]: must be uint8 \[16, 16, 4\]"):
        detector.predict(frames(1)[0])
    assert noise(detector.info.input).shape == (SIZE, SIZE, FRAMES)


@pytest.mark.parametrize("how", [{}, {"motion": 4}])
def test_a_stream_feeds_the_last_frames(clips, tmp_path, how):
    """Also those that were spared an inference."""
    values = [0, 0, 90, 90, 90, 200, 200, 30, 120, 120, 120, 240, 10]
    with edge.stream(clips, write(tmp_path / "a.avi", values), **how) as stream:
        seen = list(stream)
    greys = [preprocess.resize(preprocess.to_grey(frame.image), SIZE, SIZE).astype(float) for frame in seen]
    for t, frame in enumerate(seen):
        if frame.fresh:
            expected = np.abs(greys[t] - greys[max(0, t - 3 * (FRAMES - 1))]) / 255
            np.testing.assert_allclose(frame.map, expected, atol=1e-6)
    assert len(seen) == len(values) and {f.fresh for f in seen} == ({True, False} if how else {True})


def test_pictures_and_bench_with_a_model_of_clips(clips, tmp_path, capsys):
    """A picture is a clip that stands still."""
    cv2.imwrite(str(tmp_path / "a.png"), frames(1)[0])
    assert main(["predict", str(clips), str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out.split()[1] == "0.00000"
    assert main(["bench", str(clips), "--runs", "2"]) == 0 and main(["info", str(clips)]) == 0
    assert "16 x 16 grey float32 nchw, 4 frames 3 apart" in capsys.readouterr().out


# state


def expected_maps(sequence):
    """|frame - memory| by numpy."""
    kept, out = np.zeros((SIZE, SIZE)), []
    for frame in sequence:
        out.append(np.abs(frame[..., 0] / 255 - kept))
        kept = kept / 2 + frame[..., 0] / 255
    return out


@pytest.mark.parametrize("format", ["onnx", "openvino", "tflite"])
def test_state_goes_on_until_it_is_reset(memory, tmp_path, format):
    folder = memory if format == "onnx" else converted(memory, tmp_path, format)
    detector = edge.load(folder)
    sequence = [preprocess.to_sample([frame], "grey") for frame in frames(5)]
    for _ in range(2):
        detector.reset()
        found = [detector.predict(frame) for frame in sequence]  # which no later frame changes
        for prediction, expected in zip(found, expected_maps(sequence), strict=True):
            np.testing.assert_allclose(prediction.map, expected, atol=1e-5)
    for frame in sequence[:2]:  # without a reset the second pass differs
        again = detector.predict(frame)
    assert np.abs(again.map - expected_maps(sequence)[1]).max() > 0.01


def converted(memory, tmp_path, format):
    """The ONNX file in another format."""
    raw = json.loads((memory / "model.json").read_text())
    (tmp_path / "model").mkdir()
    if format == "openvino":
        network = openvino.convert_model(memory / "model.onnx")
        openvino.save_model(network, tmp_path / "model/model.xml", compress_to_fp16=False)
        write_model(tmp_path / "model", {**raw, "file": "model.xml", "format": "openvino"})
        return tmp_path / "model"
    file = shutil.copy(tiny_models.build() / "memory.tflite", tmp_path / "model/model.tflite")
    names = tiny_models.tensor_names(file)
    raw["input"]["layout"] = "nhwc"
    raw["state"][0] |= {"input": names["memory"], "output": names["next"], "shape": [1, SIZE, SIZE, 1]}
    raw["outputs"][0]["name"] = names["map"]
    write_model(tmp_path / "model", {**raw, "file": "model.tflite", "format": "tflite"})
    return tmp_path / "model"


def test_a_stream_and_a_list_of_pictures_start_anew(memory, tmp_path, capsys):
    path = write(tmp_path / "a.avi", [10, 60, 200])
    detector = edge.load(memory)
    scores = []
    for _ in range(2):
        with edge.stream(detector, path) as stream:
            scores.append([frame.score for frame in stream])
    assert scores[0] == scores[1] and len(set(scores[0])) == 3
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((20, 20, 3), 128, np.uint8))
    assert main(["predict", str(memory), str(tmp_path), "--csv"]) == 0
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first.split(",")[1:] == second.split(",")[1:]


class Integers:
    """A stand-in for a runtime of int8 tensors: map = sample + state, next = map; raw values, as a file computes."""

    details = {"name": "stand-in", "version": "1", "delegate": None}  # noqa: RUF012

    def __init__(self, scale=0.5):
        shape = (1, SIZE, SIZE, 1)
        self.inputs = [Tensor("image", shape, "int8", 1 / 255, -128), Tensor("memory", shape, "int8", scale, -7)]
        self.outputs = [Tensor("next", shape, "int8", 0.5, -7), Tensor("renamed", shape, "int8", 0.25, 5)]
        self.fed = []

    def invoke(self, feeds, wanted):
        self.fed.append(feeds[1].copy())
        total = np.clip(feeds[0].astype(int) + feeds[1], -128, 127).astype(np.int8)
        return [(total, total)[i] for i in wanted]


def integers(folder, monkeypatch, runtime, **changes):
    folder.mkdir()
    (folder / "model.tflite").write_bytes(b"of no matter")
    info = tiny_models.describe("model.tflite", "tflite", "int8", "nhwc", (0.25, 5))
    shape = {"shape": [1, SIZE, SIZE, 1], "dtype": "int8", "scale": 0.5, "zero_point": -7}
    info["outputs"] = [{**MAP, "name": "map", "dtype": "int8", "scale": 0.25, "zero_point": 5}]
    state = {"input": "memory", "output": "next", **shape, **changes}
    write_model(folder, {**info, "input": {**info["input"], "color": "grey"}, "state": [state]})
    monkeypatch.setattr(detectors, "open_runtime", lambda *_: runtime)
    return folder


def test_int8_state_begins_at_its_zero_point_and_is_fed_back_raw(tmp_path, monkeypatch):
    runtime = Integers()
    detector = edge.load(integers(tmp_path / "model", monkeypatch, runtime))
    sample = np.full((SIZE, SIZE, 1), 130, np.uint8)
    first, second = detector.predict(sample), detector.predict(sample)
    assert [fed.ravel()[0] for fed in runtime.fed] == [-7, -5] and runtime.fed[0].dtype == np.int8
    assert (first.raw_map == (-5 - 5) * 0.25).all() and (second.raw_map == (-3 - 5) * 0.25).all()
    detector.reset()
    detector.predict(sample)
    assert runtime.fed[-1].ravel()[0] == -7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "other"}, r"no input 'other' for the state in model\.json; it has image \[1, 16, 16, 1\], memory"),
        ({"output": "other"}, "no output 'other' for the state"),
        ({"shape": [1, 2]}, r"state input memory is int8 \[1, 16, 16, 1\], but model.json says int8 \[1, 2\]"),
        ({"scale": 0.6}, "state input memory has scale 0.5 and zero point -7, but model.json says 0.6 and -7"),
    ],
)
def test_a_state_that_the_file_has_otherwise_is_refused(tmp_path, monkeypatch, changes, message):
    folder = integers(tmp_path / "model", monkeypatch, Integers(), **changes)
    with pytest.raises(ModelError, match=message):
        edge.load(folder)


def test_state_grids_of_input_and_output_must_agree(tmp_path, monkeypatch):
    folder = integers(tmp_path / "model", monkeypatch, Integers(scale=0.6), scale=0.6)
    with pytest.raises(ModelError, match=r"state output next has scale 0\.5"):
        edge.load(folder)


def test_a_second_input_that_is_no_state_is_refused(memory, tmp_path):
    folder = shutil.copytree(memory, tmp_path / "model")
    write_model(folder, {**json.loads((folder / "model.json").read_text()), "state": []})
    with pytest.raises(ModelError, match="2 inputs are no state in"):
        edge.load(folder)


def test_each_tile_has_a_state_of_its_own(memory, tmp_path):
    """A video of two tiles is two videos side by side."""
    raw = json.loads((memory / "model.json").read_text())
    raw["input"]["tiles"] = {"rows": 1, "columns": 2, "overlap": 0}
    folder = shutil.copytree(memory, tmp_path / "model")
    write_model(folder, raw)
    detector = edge.load(folder)
    random = np.random.default_rng(0)
    sequence = random.integers(0, 256, (4, SIZE, 2 * SIZE, 1), dtype=np.uint8)
    halves = expected_maps(sequence[:, :, :SIZE]), expected_maps(sequence[:, :, SIZE:])
    for _ in range(2):
        detector.reset()
        for frame, *both in zip(sequence, *halves, strict=True):
            np.testing.assert_allclose(detector.predict(frame).map, np.hstack(both), atol=1e-5)
