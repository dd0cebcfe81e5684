"""Channels that a pretrained trunk never uses hold second copies of others, so that these are rounded more finely.

Training can leave channels whose weights in the next layer are 0: nine of the 32 of a MobileNetV2's first block. Each
takes a copy of a channel whose rounding the next layers amplify most. Copy and original lie half a step of the int8
grid apart, and the next layer takes the mean of the two: a grid of half the step, whose error has a quarter of the
variance, for no arithmetic more. One lies as much too high as the other too low, so the zeros around a picture, which
are not moved, do no harm. As in outlier channel splitting (Zhao et al., ICML 2019), which widens a layer instead.
"""

from collections import Counter
from collections.abc import Iterator

import torch

from stages.graph.quantize import QuantNetwork

UNUSED = 1e-3  # of the largest norm of a channel's weights in the next layer, below which it is not used: a choice


@torch.no_grad()
def fill_spare_channels(model: QuantNetwork) -> None:
    """Changes the weights of a calibrated network in place; its float output moves by less than the error of rounding.

    Channels are those of a depthwise layer, and of the layer before it, which is copied along.
    """
    for before, depthwise, after in blocks(model):
        first, second, third = (model.network.ops[name].conv for name in (before, depthwise, after))
        moved, moved_2 = (model.quantizer(name).scale_zero[0] / 4 for name in (before, depthwise))
        norms = third.weight.square().sum((0, 2, 3)).sqrt()
        used = norms > UNUSED * norms.max()
        gain = 1 + second.weight.square().sum((1, 2, 3))  # of the error variance: rounded before and after `depthwise`
        order = (used * gain * norms.square()).argsort(descending=True).tolist()
        spare = [channel for channel in order if not used[channel]]
        for empty, channel in zip(spare, order[: len(order) - len(spare)], strict=False):
            first.weight[empty], second.weight[empty] = first.weight[channel], second.weight[channel]
            change = moved_2 - moved * second.weight[channel].sum()
            for layer, up in ((first, moved), (second, change)):
                layer.bias[empty] = layer.bias[channel] + up
                layer.bias[channel] -= up
            third.weight[:, channel] /= 2
            third.weight[:, empty] = third.weight[:, channel]


def blocks(model: QuantNetwork) -> Iterator[tuple[str, str, str]]:
    """The names of three layers, a depthwise one between two others, each of which is all that the next one reads."""
    network = model.network
    readers = Counter(network.results) + Counter(name for node in network.nodes for name in node.inputs)
    nodes = {node.name: node for node in network.nodes if node.name in network.layers}
    for after in nodes.values():
        depthwise = nodes.get(after.inputs[0])
        before = nodes.get(depthwise.inputs[0]) if depthwise and depthwise.depthwise else None
        if (
            depthwise
            and before
            and not (after.depthwise or before.depthwise)
            and after.kernel == 1
            and before.channels == depthwise.channels
            and readers[before.name] == readers[depthwise.name] == 1
        ):
            yield before.name, depthwise.name, after.name
