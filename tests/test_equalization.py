"""Cross-layer equalization: the function stays, channels become equally large, and int8 keeps more of small ones."""

import copy

import pytest
import torch
from students import lively, smooth

from stages.graph.batchnorm import fold
from stages.graph.bias_correction import calibrated
from stages.graph.equalization import HEADROOM, MOST, equalize, pairs
from stages.graph.network import Network, Node
from stages.graph.quantize import QuantNetwork

torch.set_num_threads(1)


def uneven(act: str | bool) -> Network:
    """A chain of three layers and two that read one output; the channels of the first differ a hundredfold."""
    nodes = [
        Node("stem", "conv", ("input",), 8, 3, 2, norm=False, act=act),
        Node("depth", "conv", ("stem",), 16, 3, depthwise=True, norm=False, act=act),
        Node("project", "conv", ("depth",), 8, norm=False, act=False),
        Node("left", "conv", ("project",), 4, norm=False, act=False),
        Node("right", "conv", ("project",), 4, norm=False, act=False),
        Node("head", "add", ("left", "right")),
    ]
    torch.manual_seed(0)
    network = Network(nodes).eval()
    scale = torch.logspace(-2, 0, 8)
    network.ops["stem"].conv.weight.data.mul_(scale.view(-1, 1, 1, 1))
    network.ops["stem"].conv.bias.data.mul_(scale)
    network.ops["depth"].conv.weight.data.div_(scale.repeat_interleave(2).view(-1, 1, 1, 1))
    return network


@pytest.mark.parametrize("act", ["relu6", "relu", False])
def test_the_function_stays_and_channels_become_as_large(act):
    network, images = uneven(act), smooth(4, 32)
    equalized = copy.deepcopy(network)
    equalize(equalized, images)
    before, after = (each.activations(images) for each in (network, equalized))
    torch.testing.assert_close(after["head"], before["head"], rtol=1e-4, atol=1e-4)
    for name in ("stem", "depth"):
        old, new = (found[name].detach().abs().amax((0, 2, 3)) for found in (before, after))
        goal = (6.0 if act == "relu6" else float(old.max())) / HEADROOM
        for was, now in zip(old.tolist(), new.tolist(), strict=True):
            wanted = was if was == 0 else min(max(goal, was), MOST * was)
            assert now == pytest.approx(wanted, rel=1e-4), name
    assert (after["stem"].abs().amax((0, 2, 3)) > 5 * before["stem"].abs().amax((0, 2, 3))).sum() >= 2


def test_only_what_one_convolution_reads_is_changed():
    network = uneven("relu6")
    names = [(node.name, following.name) for node, following in pairs(network)]
    assert names == [("stem", "depth"), ("depth", "project")]
    assert [node.name for node, _ in pairs(network, {"stem"})] == ["depth"]


def test_what_the_next_step_reads_again_is_not_changed():
    nodes = [
        Node("past", "state", ("input",), 4, options={"next": "now"}),
        Node("seen", "conv", ("input",), 4, norm=False, act=False),
        Node("both", "add", ("seen", "past")),
        Node("now", "conv", ("both",), 4, norm=False, act=False),
        Node("more", "conv", ("now",), 4, norm=False, act=False),
        Node("out", "conv", ("more",), 1, norm=False, act=False),
    ]
    assert [node.name for node, _ in pairs(Network(nodes))] == ["more"]


def error(model: QuantNetwork, network: Network, images: torch.Tensor) -> float:
    with torch.no_grad():
        wanted = network(images)
        return float((model(images) - wanted).var() / wanted.var())


def test_int8_keeps_more_of_small_channels():
    network, images = uneven(False), smooth(16, 32)
    plain = QuantNetwork.calibrated(copy.deepcopy(network), images)
    assert error(calibrated(copy.deepcopy(network), images), network, images) < 0.2 * error(plain, network, images)


def test_what_is_kept_can_be_read_as_it_is():
    """Training reads features inside a trunk: those are not multiplied."""
    network, images = fold(lively(0.25)), smooth(4, 64)
    first = pairs(network)[0][0].name
    changed, same = copy.deepcopy(network), copy.deepcopy(network)
    equalize(changed, images)
    equalize(same, images, {first})
    wanted = network.activations(images)[first]
    assert torch.equal(same.activations(images)[first], wanted)
    assert not torch.allclose(changed.activations(images)[first], wanted)
