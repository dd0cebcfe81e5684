"""Bias correction: means against the float network's, by convolutions written here; what it does to the int8 file."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from students import lively, smooth

from stages.graph.batchnorm import fold
from stages.graph.bias_correction import correct_biases
from stages.graph.network import Network, Node
from stages.graph.quantize import QuantNetwork

torch.set_num_threads(1)


def badly_scaled() -> Network:
    """A depthwise layer whose large weights make the grid of its small ones too coarse: all are rounded to 0, though
    together they move the mean of a channel by more than its deviation."""
    nodes = [
        Node("stem", "conv", ("input",), 8, 3, 2, norm=False),
        Node("depth", "conv", ("stem",), 8, 5, depthwise=True, norm=False),
        Node("project", "conv", ("depth",), 8, norm=False, act=False),
        Node("add", "add", ("project", "project_2")),
        Node("head", "conv", ("add",), 4, norm=False, act=False),
    ]
    nodes.insert(3, Node("project_2", "conv", ("stem",), 8, norm=False, act=False))
    torch.manual_seed(0)
    network = Network(nodes).eval()
    network.ops["stem"].conv.weight.data.abs_()  # what comes in is not centred
    weight = network.ops["depth"].conv.weight.data
    weight.uniform_(0.02, 0.03)
    weight[:, :, 2, 2] = 8.0
    weight[:, :, 2, 1] = -8.0  # an edge: large weights that together give little
    return network


def quantized(network: Network, images: torch.Tensor) -> QuantNetwork:
    return QuantNetwork.calibrated(copy.deepcopy(network), images)


def padded(node: Node, x: torch.Tensor) -> torch.Tensor:
    top, bottom, left, right = node.pads(*x.shape[-2:])
    return F.pad(x, (left, right, top, bottom))


def rounded(conv: torch.nn.Conv2d) -> torch.Tensor:
    """The weights on TFLite's grid for each channel: -127..127 times the largest by 127."""
    weight = conv.weight.detach().double().numpy()
    scale = np.abs(weight).max((1, 2, 3), keepdims=True) / 127
    return torch.tensor(np.rint(weight / scale) * scale)


def means(model: QuantNetwork, network: Network, images: torch.Tensor):
    """Of each convolution before its activation function: its name, the mean of each channel in the int8 network, in
    the float one, and half the step of its biases."""
    with torch.no_grad():
        inputs, floats = model.activations(images), network.activations(images)
    for node in network.nodes:
        if node.kind == "conv":
            (source,) = node.inputs
            convs = model.network.ops[node.name].conv, network.ops[node.name].conv
            how = {"stride": node.stride, "groups": convs[1].groups}
            found = F.conv2d(padded(node, inputs[source]).double(), rounded(convs[0]), **how).mean((0, 2, 3))
            wanted = F.conv2d(padded(node, floats[source]).double(), convs[1].weight.double(), **how).mean((0, 2, 3))
            step = convs[0].weight.abs().amax((1, 2, 3)) / 127 * model.quantizer(source).scale_zero[0]
            yield node.name, found + convs[0].bias.double(), wanted + convs[1].bias.double(), step / 2


@torch.no_grad()
@pytest.mark.parametrize("make", [badly_scaled, lambda: fold(lively(0.25))])
def test_every_layer_has_the_mean_of_the_float_network(make):
    network, images = make(), smooth(8, 64, seed=2)
    model = quantized(network, images)
    before = {name: float((found - wanted).abs().max()) for name, found, wanted, _ in means(model, network, images)}
    correct_biases(model, images)
    after = {}
    for name, found, wanted, step in means(model, network, images):
        assert (found - wanted).abs().le(step + 1e-4).all(), name  # a bias is rounded to its own grid
        after[name] = float((found - wanted).abs().max())
    assert max(before.values()) > 20 * max(after.values()), "or there was nothing to correct"


def test_only_biases_change():
    network, images = badly_scaled(), smooth(8, 64, seed=2)
    model = quantized(network, images)
    before = copy.deepcopy(model)
    correct_biases(model, images)
    for (name, new), old in zip(model.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(new, old) != name.endswith("conv.bias"), name
    assert not any(parameter.grad_fn for parameter in model.parameters())


def errors(model: QuantNetwork, network: Network, images: torch.Tensor) -> float:
    """Mean squared error of the simulated integers, in variances of the float output."""
    with torch.no_grad():
        wanted = network(images)
    scale, zero = model.quantizer("head").scale_zero
    found = (model.simulate((images * 255).round()) - zero) * scale
    return float((found - wanted).square().mean() / wanted.var((0, 2, 3)).mean())


def test_the_integer_network_comes_closer_to_the_float_one_on_other_pictures():
    network, images, new = badly_scaled(), smooth(16, 64, seed=2), (smooth(6, 64, seed=7) * 255).round() / 255
    model = quantized(network, images)
    before = errors(model, network, new)
    correct_biases(model, images)
    assert errors(model, network, new) < 0.3 * before and before > 0.1


def test_a_network_that_loses_nothing_stays_as_it_is():
    """Permutations and copies of the pixels, which all grids hold exactly."""
    nodes = [
        Node("swap", "conv", ("input",), 6, norm=False, act=False),
        Node("shift", "conv", ("swap",), 6, 3, depthwise=True, norm=False, act=False),
        Node("relu", "conv", ("shift",), 3, norm=False),
    ]
    network = Network(nodes).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for channel in range(6):
            network.ops["swap"].conv.weight[channel, (channel + 1) % 3] = 1
            network.ops["shift"].conv.weight[channel, 0, channel % 3, 1] = 1
        for channel in range(3):
            network.ops["relu"].conv.weight[channel, 5 - channel] = 1
    images = torch.randint(0, 256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0)) / 255
    images[:, :, 0, :2] = torch.tensor([0.0, 1.0])
    model = quantized(network, images)
    correct_biases(model, images)
    for name, op in model.network.ops.items():
        assert op.conv.bias.abs().max() < 1e-6, name
