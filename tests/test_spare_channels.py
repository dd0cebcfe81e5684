"""Second copies in spare channels: what they leave as it is, and what they do to the rounding error."""

import copy

import pytest
import torch
from students import smooth

from stages.graph.network import Network, Node
from stages.graph.quantize import QuantNetwork
from stages.graph.spare_channels import fill_spare_channels

torch.set_num_threads(1)
IMAGES = smooth(16, 64, seed=3)


def block(spare: int, second_reader: bool = False, kernel: int = 1, next_value: bool = False) -> Network:
    """An inverted residual of 16 channels, of which the next layer does not use the first ones."""
    nodes = [
        Node("expand", "conv", ("input",), 16, 3, 2, norm=False),
        Node("depth", "conv", ("expand",), 16, 3, depthwise=True, norm=False),
        Node("project", "conv", ("depth",), 8, kernel, norm=False, act=False),
    ]
    if second_reader:
        nodes.append(Node("tap", "conv", ("expand",), 4, norm=False, act=False))
    if next_value:
        nodes.append(Node("before", "state", ("input",), 16, stride=2, options={"next": "expand"}))
        nodes.append(Node("change", "conv", ("before",), 4, norm=False, act=False))
    torch.manual_seed(0)
    network = Network(nodes).eval()
    for layer in network.layers.values():
        layer.weight.data.mul_(2)
        layer.bias.data.uniform_(0, 1)
    network.layers["project"].weight.data[:, :spare] *= 1e-6
    return network


def error(model: QuantNetwork, wanted: torch.Tensor) -> float:
    """The mean squared error of `project` where activations are rounded, not weights."""
    values = {"input": IMAGES}
    with torch.no_grad():
        for node in model.network.nodes:
            values[node.name] = model.quant[node.name](model.network.ops[node.name](values[node.inputs[0]]).clone())
    return float((values["project"] - wanted).square().mean())


def finely(network: Network, fill: bool) -> QuantNetwork:
    """The network with int8 grids for the two layers that are copied, and fine ones for what lies around."""
    model = QuantNetwork.calibrated(copy.deepcopy(network), IMAGES)
    if fill:
        fill_spare_channels(model)
    for name in ("input", "project"):
        model.quant[name] = torch.nn.Identity()
        model.quant[name].scale_zero = (1e-6, 0)
    return model


def test_copies_of_all_channels_take_away_most_of_the_error():
    """Of both layers; a quarter is left of the error of a value that is rounded once."""
    network = block(8)
    wanted = network.activations(IMAGES)["project"].detach()
    assert error(finely(network, True), wanted) < 0.45 * error(finely(network, False), wanted)


def test_the_float_network_stays_within_the_error_of_rounding():
    network = block(8)
    wanted = network.activations(IMAGES)["project"].detach()
    plain, filled = (finely(network, fill) for fill in (False, True))
    moved = filled.network.activations(IMAGES)["project"].detach() - wanted
    assert 0 < float(moved.square().mean()) < 0.01 * error(plain, wanted)  # at the zeros around a picture, too


def test_channels_whose_rounding_counts_most_are_copied():
    """Those whose error, drawn at random on the steps of both layers, changes the output most."""
    network = block(3)
    network.layers["depth"].weight.data *= torch.linspace(0.2, 3, 16).view(-1, 1, 1, 1)
    weight = {name: layer.weight.detach() for name, layer in network.layers.items()}
    changed = []
    for channel in range(16):
        one = torch.zeros(1, 16, 64, 64)
        one[:, channel] = torch.rand(64, 64) - 0.5
        behind = torch.nn.functional.conv2d(one, weight["depth"], groups=16)
        changed.append(sum(torch.nn.functional.conv2d(x, weight["project"]).square().mean() for x in (one, behind)))
    used = torch.stack(changed).argsort(descending=True)
    by_norm = weight["project"].square().sum((0, 2, 3)).argsort(descending=True)
    assert set(used[:3].tolist()) != set(by_norm[:3].tolist())
    model = QuantNetwork.calibrated(copy.deepcopy(network), IMAGES)
    fill_spare_channels(model)
    expand, depth, project = (model.network.layers[name].weight for name in ("expand", "depth", "project"))
    sources = {next(c for c in range(3, 16) if torch.equal(expand[c], expand[empty])) for empty in range(3)}
    assert sources == set(used[:3].tolist())
    for empty in range(3):
        (channel,) = (c for c in sources if torch.equal(depth[c], depth[empty]))
        assert torch.equal(project[:, channel], project[:, empty])
        assert torch.equal(project[:, channel] * 2, network.layers["project"].weight[:, channel])


@pytest.mark.parametrize(
    "network", [block(0), block(4, second_reader=True), block(4, kernel=3), block(4, next_value=True)]
)
def test_where_nothing_is_spare_or_something_else_reads_nothing_changes(network):
    model = QuantNetwork.calibrated(copy.deepcopy(network), IMAGES)
    fill_spare_channels(model)
    assert all(map(torch.equal, model.network.parameters(), network.parameters()))
