"""The ConvLSTM: one step against its equations in numpy, shared weights, and what it finds in clips."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import one_line
from exporting import export
from test_motion import moving

from edge.errors import UserError
from stages.detectors import convlstm
from stages.detectors.base import Run
from stages.detectors.convlstm import ConvLSTM, new_network, tie, untie

FRAMES, CHANNELS = 4, 4


def fitted(epochs: int, train) -> ConvLSTM:
    settings = SimpleNamespace(channels=8, streaming=False, epochs=epochs, batch=8, lr=0.003)
    return ConvLSTM.fit(train, train[:4], settings, Run(0, "test", lambda *_, **__: None))


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = new_network(FRAMES, CHANNELS)
    tie(made)
    return untie(made)


def test_the_cell_is_that_of_the_paper(network):
    """Shi et al., eq. 3 without peepholes, step by step in numpy from the convolutions of the first step."""
    clip = torch.rand(2, FRAMES, 32, 32)
    with torch.no_grad():
        values = network.activations(clip)
        hidden = cell = None

        def sigmoid(x):
            return 1 / (1 + np.exp(-x))

        for t in range(FRAMES - 1):
            frame = clip[:, t : t + 1]
            coarse = network.ops["coarse_0"](network.ops["fine_0"](frame))
            gates = {}
            for gate in ("input", "forget", "output", "new"):
                if gate == "forget" and t == 0:
                    continue
                total = network.ops[f"{gate}_x_{min(t, 1) if gate == 'forget' else 0}"](coarse)
                if t:
                    total = total + network.ops[f"{gate}_h_1"](torch.from_numpy(hidden))
                gates[gate] = total.numpy()
            new = sigmoid(gates["input"]) * np.tanh(gates["new"])
            cell = new if t == 0 else sigmoid(gates["forget"]) * cell + new
            hidden = (sigmoid(gates["output"]) * np.tanh(cell)).astype(np.float32)
            np.testing.assert_allclose(values[f"hidden_{t}"].numpy(), hidden, atol=2e-6)


def test_the_map_is_the_mean_error_of_a_patch(network):
    clip = torch.rand(1, FRAMES, 32, 32)
    with torch.no_grad():
        values = network.activations(clip)
    now = clip[0, -1].reshape(16, 2, 16, 2).mean((1, 3))
    before = clip[0, -2].reshape(16, 2, 16, 2).mean((1, 3))
    predicted = before + values["change"][0, 0]
    wanted = (predicted - now).abs().reshape(4, 4, 4, 4).mean((1, 3))
    torch.testing.assert_close(values["score"][0, 0], wanted)


def test_steps_share_their_weights_through_training():
    network = fitted(1, moving(16, 1.5, 32, FRAMES)).network
    first = new_network(FRAMES, 8)
    for name, conv in network.layers.items():
        part, _, step = name.rpartition("_")
        if not step.isdigit():
            continue
        if part == "frame":
            assert torch.equal(conv.weight, first.layers[name].weight), "fixed"
            continue
        others = [other for key, other in network.layers.items() if key.rpartition("_")[0] == part]
        assert all(torch.equal(conv.weight, other.weight) for other in others)
        assert not torch.equal(conv.weight, first.layers[name].weight), "trained"
    assert len({id(conv.weight) for conv in network.layers.values()}) == len(network.layers)


def test_what_is_fast_is_badly_predicted_and_time_has_a_direction():
    detector = fitted(6, moving(40, 1.5, 64, 6))
    slow, fast = moving(8, 1.5, 64, 6, seed=4), moving(8, 6.0, 64, 6, seed=4)

    def scores(samples):
        return detector.maps(np.ascontiguousarray(samples)).amax((1, 2)).numpy()

    normal = scores(slow)
    assert scores(fast).min() > normal.max()
    assert (scores(fast[..., ::-1]) != scores(fast)).all()  # reversed
    order = [3, 0, 5, 1, 4, 2]
    assert np.median(scores(slow[..., order])) > normal.max()  # shuffled
    assert scores(np.repeat(slow[..., -1:], 6, 3)).max() < normal.max()  # a still picture is no anomaly


@pytest.mark.slow
def test_the_int8_file_knows_the_direction_of_time(tmp_path, monkeypatch):
    """Reversed and shuffled clips have other scores; a picture that stands still is no anomaly by itself."""
    monkeypatch.chdir(tmp_path)
    detector = fitted(6, moving(40, 1.5, 64, 6))
    ranges = np.concatenate([moving(6, speed, 64, 6, seed=5) for speed in (1.5, 7.0)])  # few scores at their end
    _, device = export(detector, "tflite", "int8", tmp_path, ranges)
    slow, fast = moving(12, 1.5, 64, 6, seed=4), moving(12, 7.0, 64, 6, seed=4)

    def scores(samples):
        return np.array([device.judge(np.ascontiguousarray(sample)).score for sample in samples])

    normal = scores(slow)
    assert np.median(scores(fast)) > np.median(normal)
    for samples in (slow, fast):
        for order in ([5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]):
            assert (scores(samples[..., order]) != scores(samples)).mean() > 0.5
    assert np.median(scores(np.repeat(slow[..., -1:], 6, 3))) <= normal.max()


def test_pictures_cannot_be_predicted():
    with pytest.raises(UserError, match=r"predicts a frame from those before it; set input\.color: grey") as caught:
        fitted(1, moving(4, 1.5, 32, 4)[..., :1])
    one_line(caught)


def test_cost_is_the_sum_over_the_steps(network):
    """What another frame adds is one step."""
    costs = [new_network(frames, CHANNELS).cost(32, 32)["macs"] for frames in (4, 5, 6)]
    per_step = costs[1] - costs[0]
    side, edge = 8, convlstm.EDGE
    gates = 8 * CHANNELS * CHANNELS * 9 * side**2
    encoder = 32 * 32 + edge * 9 * 16**2 + CHANNELS * edge * 9 * side**2
    # the convolutions that select frames see all of them: one channel more in each of them too
    assert abs(per_step - gates - encoder) / per_step < 0.15
