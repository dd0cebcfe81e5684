"""Ranges of activations by the least squared error of their int8 grids.

The smallest and largest values of a tensor without an activation function are rare, and a grid that spans them is
coarse for all others: in a MobileNetV2 from -37 to 41, where values deviate by 2. A narrower one cuts off the rare ones
and is finer. Nagel et al., "A White Paper on Neural Network Quantization" (2021), section 3.1, `MSE`.
"""

import torch

from stages.graph import streaming
from stages.graph.grids import Grid, grid
from stages.graph.memory import at_once
from stages.graph.network import nodes_channels
from stages.graph.quantize import QuantNetwork

SHARES = [tenths / 10 for tenths in range(10, 1, -1)]  # of the range that is narrowed: a choice


@torch.no_grad()
def narrow_ranges(model: QuantNetwork, images: torch.Tensor) -> None:
    """Narrows the ranges of a calibrated network in place, each to that share of it whose grid has the least squared
    error over `images`, float [N, C, H, W] in 0..1, of a network with states clips.

    Those are layers without a limit and sums of such. Left as they are: outputs and maps of one channel, whose largest
    values are the scores of defects, and what a minimum over channels selects from.
    """
    network = model.network
    outputs = [model.quantizer(name) for name in network.heads]
    chosen = {
        node.name: model.quant[node.name]
        for node in network.nodes
        if (network.ops[node.name].layer is not None or node.kind == "add")
        and node.name in model.quant.keys() - model.seen.keys()
        and model.quant[node.name].limit is None
        and model.quant[node.name] not in outputs
        and nodes_channels(network.nodes, node.name, network.channels) > 1
    }
    errors = {name: torch.zeros(len(SHARES), dtype=torch.float64) for name in chosen}
    for batch in images.split(at_once(network, *images.shape[2:], most=16)):
        for values in streaming.steps(streaming.run(network), network, batch):
            for name, quant in chosen.items():
                value = values[name]
                for i, share in enumerate(SHARES):
                    rounded = Grid.apply(value.clone(), *grid(*(quant.range * share).tolist()))
                    errors[name][i] += float((rounded - value).square().sum(dtype=torch.float64))
    for name, quant in chosen.items():
        quant.range.mul_(SHARES[int(errors[name].argmin())])
