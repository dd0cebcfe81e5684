"""How many pictures a network can be run on at a time: all of its activations of one stay in memory."""

from stages.graph.network import Network, nodes_channels
from stages.graph.operations import KINDS

ROOM = 320_000_000  # values of all activations at a time: a choice, 1.3 GB in float32


def activations(network: Network, height: int, width: int) -> int:
    """The number of values of the input and of all nodes' outputs for one picture."""
    sizes, total = {"input": (height, width)}, network.channels * height * width
    for node in network.nodes:
        sizes[node.name] = KINDS[node.kind].size(node, *sizes[node.inputs[0] if node.inputs else "input"])
        high, wide = sizes[node.name]
        total += nodes_channels(network.nodes, node.name, network.channels) * high * wide
    return total


def at_once(network: Network, height: int, width: int, *, most: int) -> int:
    """As many pictures as there is room for, at least one and `most` at most."""
    return max(1, min(most, ROOM // activations(network, height, width)))
