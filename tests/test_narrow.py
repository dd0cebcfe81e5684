"""The narrower trunk, against brute force, scikit-learn and a trunk that is narrow in disguise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge
from students import lively, smooth

from edge.errors import UserError
from stages.detectors.student_init import new_student
from stages.detectors.student_network import taps
from stages.detectors.trunks import trunk_nodes
from stages.detectors.trunks.mobilenet_v2 import STAGES
from stages.graph import narrow
from stages.graph.batchnorm import fold, reinsert
from stages.graph.network import Network, Node
from stages.graph.tensors import flatten_patches

torch.set_num_threads(1)


def explained(wanted: torch.Tensor, found: torch.Tensor) -> float:
    """Share of the variance of `wanted` [N, c, h, w] that a linear function of `found` gives (R² over all channels)."""
    x, y = flatten_patches(found).double().numpy(), flatten_patches(wanted).double().numpy()
    left = y - LinearRegression().fit(x, y).predict(x)
    return 1 - np.square(left).sum() / np.square(y - y.mean(0)).sum()


def test_select_against_every_possible_next_column():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 9)) + 0.3 * rng.normal(size=(200, 9)) + 5
    y = np.maximum(x, 5.5) @ rng.normal(size=(9, 3)) - 2

    def error(columns: list[int]) -> float:
        fit = LinearRegression().fit(x[:, columns], y)
        return np.square(y - fit.predict(x[:, columns])).sum()

    expected: list[int] = []
    for _ in range(6):
        expected.append(min(set(range(9)) - set(expected), key=lambda k: error([*expected, k])))
    found = narrow.select(torch.tensor(x), torch.tensor(y), 6).tolist()
    assert found == expected
    assert found != np.argsort(-x.var(0))[:6].tolist(), "or the largest channels would do"


def test_select_takes_a_copy_last():
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    chosen = narrow.select(torch.cat([x, x], 1), x @ torch.rand(3, 2), 3) % 3
    assert sorted(chosen.tolist()) == [0, 1, 2]
    every = narrow.select(torch.cat([x, x, torch.zeros(100, 2)], 1), x, 8)
    assert sorted(every.tolist()) == list(range(8)), "each once, even those that add nothing"


def test_fit_is_a_ridge_regression_of_what_is_missing():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(300, 5)) + 3, rng.normal(size=(300, 2)) - 1
    start, bias = rng.normal(size=(2, 5)), rng.normal(size=2)
    reference = Ridge(alpha=narrow.RIDGE * np.square(x - x.mean(0)).sum(0).mean()).fit(x, y - x @ start.T - bias)
    weight, offset = narrow._fit(*[torch.tensor(v, dtype=torch.float32) for v in (x, y, start, bias)])
    np.testing.assert_allclose(weight, start + reference.coef_, atol=1e-4)
    np.testing.assert_allclose(offset, bias + reference.intercept_, atol=1e-4)


def disguised(thin: Network) -> Network:
    """The trunk of `thin`, with every channel inside a block twice and the streams turned within twice the channels."""
    folded = fold(thin)
    nodes = trunk_nodes(STAGES, 0.5)[0]
    wide = Network([replace(n, channels=2 * n.channels) for n in nodes])
    streams = {n.name for n in nodes if not n.act and n.kind == "conv"} | {n.name for n in nodes if n.kind == "add"}
    turns = {c: torch.linalg.qr(torch.randn(2 * c, c)).Q for c in {n.channels for n in nodes}}
    channels = {n.name: n.channels for n in nodes}
    channels |= {n.name: channels[n.inputs[0]] for n in nodes if n.kind == "add"}
    for node in nodes:
        if node.kind != "conv":
            continue
        old, new = folded.ops[node.name].conv, wide.ops[node.name]
        weight, bias = old.weight.data, old.bias.data
        if node.name in streams:
            turn = turns[node.channels]
            weight = torch.einsum("wc,cixy->wixy", turn, torch.cat([weight, weight], 1) / 2)
            bias = turn @ bias
        else:
            if node.inputs[0] in streams:
                weight = torch.einsum("ocxy,wc->owxy", weight, turns[channels[node.inputs[0]]])
            weight, bias = torch.cat([weight, weight]), torch.cat([bias, bias])
        new.conv.weight.data.copy_(weight)
        new.norm.bias.data.copy_(bias)
    reinsert(wide, smooth(4, 64))
    return wide.eval()


def test_a_trunk_that_is_narrow_in_disguise_is_found_again():
    thin = lively(0.5)
    wide = disguised(thin)
    nodes = trunk_nodes(STAGES, 0.5)[0]
    images = smooth(2, 64, seed=5)
    expected, whole = thin.activations(images), wide.activations(images)
    found = narrow.narrow(wide, nodes, smooth(12, 128))
    assert found.nodes == nodes
    values = found.activations(images)
    for name in ("b0_project", "b2_add", "b5_add", "b10_project"):
        sizes = [part[name].detach().pow(2).sum(1) for part in (expected, whole, values)]
        torch.testing.assert_close(sizes[1], sizes[0], rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(sizes[2], sizes[0], rtol=2e-2, atol=1e-3)


def test_a_trunk_with_other_operations_is_refused():
    nodes = trunk_nodes(STAGES, 0.5)[0]
    nodes.append(Node("b11_up", "up", (nodes[-1].name,)))
    with pytest.raises(UserError, match=r"^layer b11_up: up can't be narrowed; use student.init: scratch"):
        narrow.narrow(Network(nodes).eval(), nodes, smooth(1, 64))


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.parametrize("name", ["mobilenet-v2-1.0-224", "tf_efficientnet_lite0.in1k"])
def test_a_narrower_start_keeps_what_the_full_one_says(assets, name):
    full, half = [new_student(str(assets / "weights" / name), width, smooth(24, 96)) for width in (1.0, 0.5)]
    images = smooth(24, 96, seed=7)
    with torch.inference_mode():
        expected, found = full.activations(images), half.activations(images)
    shares = {name: explained(expected[name], found[name]) for name in ("b0_project", "b2_add", *taps(full).values())}
    deep = taps(full)["deep"]
    assert found[deep].shape[1] <= expected[deep].shape[1] / 2 + 4
    assert min(shares.values()) > 0.6, shares
