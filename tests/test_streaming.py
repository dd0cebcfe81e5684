"""The ConvLSTM as a network with a state: one step a frame equals the unrolled network, in float and to the bit."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import one_line
from exporting import export
from test_motion import moving

from edge.errors import UserError
from edge.inference.detector import Detector
from stages.compile import fidelity, validation
from stages.compile.edgetpu.mapping import predict
from stages.detectors import convlstm
from stages.detectors.base import Run
from stages.detectors.convlstm import ConvLSTM
from stages.graph import streaming
from stages.graph.batchnorm import fold
from stages.graph.network import Network, Node
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor

pytestmark = pytest.mark.slow
torch.set_num_threads(1)
FRAMES, SIDE = 5, 32  # as many channels of the state as it has rows, which a converter may mistake for each other
CHANNELS = SIDE // 4
STATE = ("hidden", "cell", "predicted")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train = moving(64, 1.5, SIDE, FRAMES)
        settings = SimpleNamespace(channels=CHANNELS, streaming=True, epochs=20, batch=8, lr=0.01)
        return ConvLSTM.fit(train, train[:4], settings, Run(0, "test", lambda *_, **__: None))


@pytest.fixture(scope="module")
def files(fitted, tmp_path_factory):
    """The build and the opened file of each format."""
    root, samples = tmp_path_factory.mktemp("files"), moving(8, 3.0, SIDE, FRAMES, seed=5)
    kinds = [(form, precision) for form in ("tflite", "onnx", "openvino") for precision in ("int8", "float32")]
    return {kind: export(fitted, *kind, root, samples) for kind in kinds}


def frames_of(clip: np.ndarray) -> list[np.ndarray]:
    return np.split(clip, clip.shape[2], axis=2)


def as_unrolled(network: Network, frames: int, first: bool) -> Network:
    """A network over whole clips with the weights of the step. first: with all of the first step, whose states are the
    output of a layer of zeros, instead of leaving it out."""
    nodes = convlstm.unrolled(frames, CHANNELS)
    if first:
        step = convlstm.step_nodes("frame_0", "0", CHANNELS, ("zero", "zero"))
        at = {node.name: node for node in step}
        nodes = [node for node in nodes if node.name not in at]
        zero = Node("zero", "conv", ("input",), CHANNELS, 4, 4, norm=False, act=False)
        nodes = [nodes[0], zero, *step, *nodes[1:]]
    made = Network(nodes, frames)
    with torch.no_grad():
        for name, conv in made.layers.items():
            part, _, step = name.rpartition("_")
            conv.weight.zero_(), conv.bias.zero_()
            if part == "frame":
                conv.weight[:, int(step)] = 1
            elif name in ("before", "now"):
                conv.weight[:, -1 if name == "now" else -2] = 1 / 4
            elif name != "zero":
                source = network.layers[f"{part}_now" if step.isdigit() else name]
                conv.weight.copy_(source.weight), conv.bias.copy_(source.bias)
    return made.eval()


# in float


@pytest.mark.parametrize("first", [False, True])
def test_the_last_of_the_steps_is_the_unrolled_network(fitted, first):
    """From the zero state: the unrolled network leaves out what zeros are multiplied with."""
    clips = to_tensor(moving(4, 2.0, SIDE, 9, seed=3))
    network = fitted.network
    for frames in (2, 3, 9):
        whole = as_unrolled(network, frames, first)
        with torch.no_grad():
            values = streaming.last(streaming.run(network), network, clips[:, :frames], warm=0)
            wanted = whole.activations(clips[:, :frames])
        torch.testing.assert_close(values["score"], wanted["score"], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(values["predicted"], wanted["predicted"], atol=1e-6, rtol=1e-5)


def test_a_state_counts(fitted):
    """Two clips with the same last two frames have different scores, since what was before differs."""
    clip = moving(1, 2.0, SIDE, FRAMES, seed=3)
    other = clip.copy()
    other[..., :-2] = clip[..., -2:-1]
    assert not torch.equal(*(fitted.maps(one) for one in (clip, other)))


def test_every_frame_but_the_first_is_learned(fitted):
    """The error of the prediction at each frame is lower than before training, and than that of the frame before."""
    torch.manual_seed(0)
    start, clips = convlstm.new_network(FRAMES, CHANNELS, True), to_tensor(moving(24, 1.5, SIDE, FRAMES))
    with torch.no_grad():
        errors = [
            [float(v["error"].square().mean()) for v in streaming.steps(streaming.run(net), net, clips, warm=0)]
            for net in (start, fitted.network)
        ]
    for before, after in list(zip(*errors, strict=True))[1:]:
        assert after < 0.9 * before
    assert all((conv.bias == 0).all() for name, conv in fitted.network.layers.items() if "_h_" in name)


def test_what_is_fast_is_badly_predicted_and_a_still_clip_is_no_anomaly(fitted):
    slow, fast = moving(8, 1.5, SIDE, FRAMES, seed=4), moving(8, 6.0, SIDE, FRAMES, seed=4)

    def scores(samples):
        return fitted.maps(np.ascontiguousarray(samples)).amax((1, 2)).numpy()

    assert np.median(scores(fast)) > 1.5 * np.median(scores(slow))
    assert (scores(slow[..., ::-1]) != scores(slow)).all()
    assert scores(np.repeat(slow[..., -1:], FRAMES, 3)).max() < np.median(scores(slow))


# the files


@pytest.mark.parametrize("kind", [("tflite", "float32"), ("onnx", "float32"), ("openvino", "float32")])
def test_a_float_file_goes_on_frame_by_frame(fitted, files, kind):
    _, device = files[kind]
    network, clip = fitted.network, moving(1, 2.0, SIDE, 12, seed=6)
    warm = FRAMES - 1
    with torch.no_grad():
        found = list(streaming.steps(streaming.run(network), network, to_tensor(clip), warm))[warm:]
    device.reset()
    for frame, wanted in zip(frames_of(clip[0]), found, strict=True):
        np.testing.assert_allclose(device.judge(frame).raw_map, wanted["score"][0, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", [("tflite", "int8"), ("onnx", "int8"), ("openvino", "int8")])
def test_states_have_one_grid(files, kind):
    """What the file gives is what it takes, so that feeding it back is exact."""
    build, device = files[kind]
    info, model = device.info, build.quantized
    assert (info.input.frames, info.input.step, info.warmup, info.reach) == (1, 1, FRAMES - 1, FRAMES)
    assert len(info.state) == 3
    for state, name in zip(info.state, STATE, strict=True):
        assert state.input == name and state.dtype == ("int8" if kind[0] == "tflite" else "float32")
        grid = model.quantizer(name).scale_zero
        assert grid == model.quantizer(build.states[name]).scale_zero and grid[0] > 1e-5
        if state.dtype == "int8":
            assert (state.scale, state.zero_point) == grid
            tensors = [device.runtime.inputs[i] for i in device.places.state_inputs]
            tensors += [device.runtime.outputs[i] for i in device.places.state_outputs]
            same = [t for t in tensors if t.name in (state.input, state.output)]
            assert len(same) == 2 and {(np.float32(t.scale), t.zero_point) for t in same} == {
                (np.float32(grid[0]), grid[1])
            }


def integers(model: QuantNetwork, clip: np.ndarray, warm: int) -> list[dict[str, torch.Tensor]]:
    clips = torch.from_numpy(clip[None]).permute(0, 3, 1, 2)
    return list(streaming.steps(model.integers, model.network, clips, warm))


@pytest.mark.parametrize("length", [FRAMES, 60])
def test_the_int8_file_is_its_simulation_to_the_bit_for_as_long_as_it_runs(files, length):
    """Outputs and states of every frame, states fed back; also of noise, which no calibration has seen."""
    build, device = files["tflite", "int8"]
    noise = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, length), np.uint8)
    scenes = np.concatenate(list(moving(length // FRAMES, 4.0, SIDE, FRAMES, seed=8)), 2)
    for clip in (scenes, noise):
        device.reset()
        for frame, wanted in zip(
            frames_of(clip), integers(build.quantized, clip, FRAMES - 1)[FRAMES - 1 :], strict=True
        ):
            raw = device.invoke(device.prepare(frame))[0]
            assert np.array_equal(raw[0, :, :, 0], wanted["score"][0, 0].numpy())
            for values, name in zip(device._states[0], STATE, strict=True):
                assert np.array_equal(values[0], wanted[build.states[name]][0].permute(1, 2, 0).numpy())
    assert len(np.unique(raw)) > 5


def test_the_int8_steps_are_the_unrolled_int8_network_to_the_bit(files):
    """An unrolled integer network on the grids of the step, from the zero state, at the first step in full."""
    build, _ = files["tflite", "int8"]
    model = build.quantized
    whole = QuantNetwork(as_unrolled(model.network, FRAMES, True))
    for name, quant in whole.quant.items():
        part, _, step = name.rpartition("_")
        if name == "input" or part == "frame":
            quant.range.copy_(model.quant["input"].range)
        elif name == "zero":
            continue
        elif name == "before":
            quant.range.copy_(model.quant["now"].range)
        else:
            key = f"{part}_now" if step.isdigit() else name
            quant.range.copy_(model.quantizer("predicted" if name == "predicted" else key).range)
    for seed in range(3):
        clip = moving(1, 3.0, SIDE, FRAMES, seed=seed)[0]
        # a state of zeros is multiplied with weights, but is on another grid: any holds zero
        whole.quant["zero"].range.copy_(model.quantizer("hidden").range)
        wanted = whole.integers(torch.from_numpy(clip[None]).permute(0, 3, 1, 2))
        found = integers(model, clip, 0)[-1]
        assert torch.equal(found["score"], wanted["score"]) and len(found["score"].unique()) > 3
        assert torch.equal(found["predicted"], wanted["predicted"])


def test_the_check_of_compile_sees_every_frame(files):
    build, device = files["tflite", "int8"]
    clips = moving(3, 3.0, SIDE, FRAMES, seed=9)
    record = fidelity.check(device, build.quantized, clips, SimpleNamespace(exact=1.0, within_1=1.0))
    assert record["exact"] == 1.0 and fidelity.device_outputs(device, clips).shape == (3, FRAMES * (SIDE // 8) ** 2)
    _, other = files["onnx", "int8"]
    fidelity.check(other, build.quantized, clips, SimpleNamespace(exact=0.0, within_1=0.0))
    assert fidelity.simulated(build.quantized, clips, ["score"]).std() > 3


def test_int8_is_near_float(fitted, files):
    _, device = files["tflite", "int8"]
    clips = moving(6, 3.0, SIDE, FRAMES, seed=10)
    found = fidelity.device_outputs(device, clips).reshape(6, FRAMES, -1)[:, -1].astype(float)
    assert np.corrcoef(found.ravel(), fitted.maps(clips).numpy().ravel())[0, 1] > 0.97


def test_all_of_it_maps_to_the_edge_tpu_by_prediction(files):
    _, device = files["tflite", "int8"]
    assert [p.reason for p in predict(device.info.path) if not p.mapped] == []


def test_a_frame_costs_one_step(fitted, files):
    """By the file: less than the unrolled network by nearly the number of its steps."""
    _, device = files["tflite", "int8"]
    assert device.info.macs == fitted.network.cost(SIDE, SIDE)["macs"]
    whole = convlstm.new_network(FRAMES, CHANNELS).cost(SIDE, SIDE)["macs"]
    assert 0.6 * whole / (FRAMES - 1) < device.info.macs < 1.6 * whole / (FRAMES - 1)


# what judges


def test_thresholds_rest_on_frames_that_follow_each_other(files):
    _, device = files["tflite", "int8"]
    two = [moving(1, 2.0, SIDE, 12, seed=seed)[0] for seed in (11, 12)]
    windows = [np.ascontiguousarray(clip[:, :, t - FRAMES + 1 : t + 1]) for clip in two for t in range(FRAMES - 1, 12)]
    begins = [i % (13 - FRAMES) == 0 for i in range(len(windows))]
    settings = SimpleNamespace(false_alarm_rate=0.02, threshold="quantile")
    found = validation.validate(device, windows, settings, 0, 2, None, begins)
    wanted = []
    for clip in two:
        device.reset()
        wanted += [device.predict(clip[:, :, t : t + 1]).score for t in range(FRAMES - 1, 12)]
    assert found["threshold"]["value"] == max(wanted) and found["threshold"]["median"] == np.median(wanted)
    assert 0 <= found["validation"]["auroc"] <= 1


def test_a_detector_warms_up_after_a_reset(files):
    """The first frame stands in for those that were not seen; another detector has a state of its own."""
    _, device = files["tflite", "int8"]
    clip = frames_of(moving(1, 3.0, SIDE, 10, seed=13)[0])
    bare = Detector(device.info)
    bare._waiting = [0]
    for frame in [clip[0]] * (FRAMES - 1):
        bare.invoke(bare.prepare(frame))
    device.reset()
    first = [device.judge(frame).score for frame in clip]
    assert first == [bare.judge(frame).score for frame in clip]
    assert [device.judge(frame).score for frame in clip] != first
    device.reset()
    assert [device.judge(frame).score for frame in clip] == first


# what is refused


@pytest.mark.parametrize(
    ("nodes", "what"),
    [
        ([Node("s", "state", ("input",), 4)], "layer s: a state takes the network's input and needs options next"),
        ([Node("s", "state", ("input",), 4, options={"next": "x"})], "layer s: its next value x is no layer of 4"),
        (
            [
                Node("s", "state", ("input",), 4, options={"next": "x"}),
                Node("x", "conv", ("s",), 3, norm=False, act=False),
            ],
            "its next value x is no layer of 4 channels",
        ),
    ],
)
def test_a_state_without_a_next_value_is_refused(nodes, what):
    with pytest.raises(UserError, match=re.escape(what)) as caught:
        Network(nodes, 1)
    one_line(caught)


def test_a_network_with_states_is_saved_and_folded(fitted, tmp_path):
    fitted.network.save(tmp_path)
    clips = to_tensor(moving(2, 2.0, SIDE, 4))
    networks = [fitted.network, Network.load(tmp_path), fold(fitted.network)]
    with torch.no_grad():
        first, *others = [streaming.last(streaming.run(n), n, clips)["score"] for n in networks]
    assert all(torch.equal(first, other) for other in others)
    assert fitted.network.heads == ["score"] and fitted.network.results == [
        "score", "hidden_now", "cell_now", "predicted_next",
    ]  # fmt: skip
