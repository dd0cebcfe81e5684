"""Ranges of the least squared error, against a search in numpy; what keeps the range that it has."""

import numpy as np
import pytest
import torch
from students import lively, smooth

from stages.graph.batchnorm import fold
from stages.graph.network import Network, Node
from stages.graph.quantize import QuantNetwork
from stages.graph.ranges import SHARES, narrow_ranges

torch.set_num_threads(1)
IMAGES = smooth(8, 64, seed=2)


def uneven() -> Network:
    """A layer without a limit whose values are rarely large, and then a sum, a limited layer and two outputs."""
    nodes = [
        Node("stem", "conv", ("input",), 8, 3, 2, norm=False),
        Node("rare", "conv", ("stem",), 8, 3, norm=False, act=False),
        Node("other", "conv", ("stem",), 8, norm=False, act=False),
        Node("sum", "add", ("rare", "other")),
        Node("limited", "conv", ("sum",), 8, norm=False),
        Node("map", "conv", ("limited",), 1, norm=False, act=False),
        Node("bank", "conv", ("limited",), 16, norm=False, act=False),
        Node("nearest", "min", ("bank",)),
        Node("head", "add", ("map", "nearest")),
        Node("features", "conv", ("sum",), 4, norm=False, act=False),
    ]
    torch.manual_seed(0)
    network = Network(nodes).eval()
    for layer in network.layers.values():
        layer.bias.data.normal_(0, 0.1)
    return network


def with_an_outlier(network: Network) -> QuantNetwork:
    """Calibrated, and then as if one picture had shown values ten times as large."""
    model = QuantNetwork.calibrated(network, IMAGES)
    for name in ("rare", "sum"):
        model.quant[name].range.mul_(10)
    return model


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    """Of TFLite's int8 grid over low..high, in float64."""
    scale = (max(high, 0.0) - min(low, 0.0)) / 255
    zero = np.clip(np.rint(-128 - min(low, 0.0) / scale), -128, 127)
    rounded = (np.clip(np.rint(values / scale) + zero, -128, 127) - zero) * scale
    return float(np.square(rounded - values).sum())


def test_each_range_is_the_share_with_the_least_error():
    model = with_an_outlier(uneven())
    before = {name: quant.range.tolist() for name, quant in model.quant.items()}
    with torch.no_grad():
        values = {name: value.double().numpy() for name, value in model.network.activations(IMAGES).items()}
    narrow_ranges(model, IMAGES)
    for name in ("rare", "other", "sum"):
        errors = [squared_error(values[name], *(share * end for end in before[name])) for share in SHARES]
        assert model.quant[name].range.tolist() == pytest.approx(np.multiply(before[name], SHARES[np.argmin(errors)]))
    assert model.quant["rare"].range.tolist() == pytest.approx(np.multiply(before["rare"], min(SHARES)))


def test_what_is_limited_selected_or_an_output_keeps_its_range():
    model = with_an_outlier(uneven())
    kept = ("input", "stem", "limited", "map", "bank", "head", "features")
    for name in kept[1:]:
        model.quantizer(name).range.mul_(10)
    before = {name: model.quantizer(name).range.tolist() for name in kept}
    narrow_ranges(model, IMAGES)
    assert {name: model.quantizer(name).range.tolist() for name in kept} == before


def test_the_output_is_nearer_to_the_float_network():
    network = fold(lively(0.25))
    with torch.no_grad():
        wanted = network.activations(IMAGES)
    errors = []
    for narrowed in (False, True):
        model = with_outliers(network)
        if narrowed:
            narrow_ranges(model, IMAGES)
        with torch.no_grad():
            found = model.activations(IMAGES)
        errors.append(sum(float((found[n] - wanted[n]).square().mean() / wanted[n].var()) for n in network.heads))
    assert errors[1] < errors[0] / 2


def with_outliers(network: Network) -> QuantNetwork:
    model = QuantNetwork.calibrated(network, IMAGES)
    for name, quant in model.quant.items():
        if quant.limit is None and not quant.fixed and name not in network.heads:
            quant.range.mul_(4)
    return model
