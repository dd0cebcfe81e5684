"""How much of a network can be pruned at most: known from its nodes, so that it is said before anything is trained."""

import torch

from edge.errors import UserError
from stages.graph.channels import DIVISOR
from stages.graph.network import Network, Node
from stages.graph.prune import coupled, kept_channels, macs, too_much


def most_prunable(nodes: list[Node], size: tuple[int, int], channels: int = 3) -> float:
    """The largest fraction of its multiply-accumulates that `prune` can remove from a network for pictures of that size
    (height, width) with `channels`: until no layer, nor the others that its channels go together with, can give DIVISOR
    more."""
    with torch.random.fork_rng(devices=[]):  # its weights, which don't matter, change no later random number
        network = Network(nodes, channels)
    least = kept_channels(network)
    width = {n.name: n.channels for n in network.nodes if n.name in least}
    for *_, members in coupled(network, torch.zeros(1, channels, *size)):
        while all(width[name] - DIVISOR >= least[name] for name in members):
            width |= {name: width[name] - DIVISOR for name in members}
    return 1 - macs(network, width, size) / network.cost(*size)["macs"]


def check_prune_ratio(ratio: float, nodes: list[Node], size: tuple[int, int], channels: int = 3) -> None:
    """UserError when the network (without its memory bank) can't lose the fraction `ratio`."""
    if ratio and ratio > (most := most_prunable(nodes, size, channels)):
        raise UserError(too_much(ratio, most))
