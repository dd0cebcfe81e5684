"""How many pictures at a time: activations counted by hand and by running the network."""

import pytest
import torch

from stages.detectors.efficientad_network import architecture
from stages.graph import memory
from stages.graph.network import Network, Node


def test_activations_are_those_of_every_node():
    nodes = [Node("a", "conv", ("input",), 8, 3, 2), Node("b", "up", ("a",)), Node("c", "conv", ("b",), 4, 3)]
    assert memory.activations(Network(nodes), 16, 8) == 3 * 16 * 8 + 8 * 8 * 4 + 8 * 16 * 8 + 4 * 16 * 8


def test_the_count_is_that_of_a_run():
    network = Network(architecture("small", 64, 8)).eval()
    with torch.inference_mode():
        values = network.activations(torch.rand(1, 3, 64, 64))
    assert memory.activations(network, 64, 64) == sum(value.numel() for value in values.values())


@pytest.mark.parametrize(("side", "most", "found"), [(256, 16, 7), (512, 16, 1), (48, 16, 16)])
def test_a_larger_network_gets_fewer_pictures(side, most, found):
    assert memory.at_once(Network(architecture("small", side)), side, side, most=most) == found
