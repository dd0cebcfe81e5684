"""Cross-layer equalization (Nagel et al., ICCV 2019): the channels of a tensor fill its int8 grid more evenly.

A tensor has one grid for all of its channels, so that one with small values gets few of its steps. Where one
convolution follows another, a channel can be multiplied by a factor that the next one divides by: without an activation
function, or with relu, the function stays the same; with relu6 it does while the channel stays below its limit.
Weights have a grid for each output channel, and lose little. On magnetic tiles, whose pictures have little contrast,
rounding the outputs of a MobileNetV2's first three layers was most of the error of its int8 form.
"""

from collections.abc import Collection

import torch

from stages.graph import streaming
from stages.graph.memory import at_once
from stages.graph.network import Network, Node

# choices
HEADROOM = 1.4  # times the largest value on training pictures that still fits: defects show others (1: they saturated)
MOST = 16.0  # times that a channel is enlarged at most: bounds what weights lose
EMPTY = 1e-6  # of the limit: a channel that is always about 0 stays as it is


def pairs(network: Network, kept: Collection[str] = ()) -> list[tuple[Node, Node]]:
    """The convolutions whose output another one takes, and nothing else, each with that one, in their order; but for
    the nodes `kept`."""
    kept = {*kept, *network.states.values()}
    found = []
    for node in network.nodes:
        readers = [other for other in network.nodes if node.name in other.inputs]
        if node.name not in kept and [other.kind for other in (node, *readers)] == ["conv", "conv"]:
            found.append((node, readers[0]))
    return found


@torch.no_grad()
def equalize(network: Network, images: torch.Tensor, kept: Collection[str] = ()) -> None:
    """Multiplies, in place, the output channels of convolutions before another one (`pairs`), where they are smaller on
    `images` than the others, or than relu6 lets them be: float [N, C, H, W] in 0..1, of a network with states clips.
    Batch norm is folded. kept: nodes whose values are needed as they are."""
    together = pairs(network, kept)
    largest = {node.name: torch.zeros(node.channels) for node, _ in together}
    for batch in images.split(at_once(network, *images.shape[2:], most=16)):
        for values in streaming.steps(streaming.run(network), network, batch):
            for name, found in largest.items():
                torch.maximum(found, values[name].abs().amax((0, 2, 3)), out=found)
    for node, following in together:
        op, after, found = network.ops[node.name], network.ops[following.name].layer, largest[node.name]
        limit = op.limit[1] if op.limit else float(found.max())
        factor = (limit / HEADROOM / found.clamp(min=EMPTY)).clamp(1.0, MOST)
        factor[found <= EMPTY * limit] = 1.0
        op.layer.weight *= factor.view(-1, 1, 1, 1)
        op.layer.bias *= factor
        if following.depthwise:
            after.weight /= factor.repeat_interleave(len(after.weight) // len(factor)).view(-1, 1, 1, 1)
        else:
            after.weight /= factor.view(1, -1, 1, 1)
