"""Bias correction (Nagel et al., ICCV 2019): what rounding does to the mean of a layer's output is taken off its bias.

Rounded weights shift the mean of a channel wherever its inputs are not centred, as behind relu6. In a pretrained
EfficientNet-Lite0 the first depthwise layer alone changed the patch embeddings by a quarter of their variance.
"""

import torch

from stages.graph.quantize import QuantNetwork


@torch.no_grad()
def correct_biases(model: QuantNetwork, images: torch.Tensor) -> None:
    """Changes the biases of a calibrated network in place, from the first layer to the last, so that the output of each
    convolution, before its activation function, has the mean of the float network's over `images`, float [N, C, S, S]
    in 0..1; the ranges stay as they are."""
    network = model.network
    wanted = {"input": images}
    found = {"input": model.quant["input"](images.clone())}
    for i, node in enumerate(network.nodes):
        op, inputs = network.ops[node.name], [found[name] for name in node.inputs]
        floats = [wanted[name] for name in node.inputs]
        wanted[node.name] = op(*floats)
        if op.layer is not None:
            shift = op.linear(*floats) - op.linear_quantized(inputs, [model.quantizer(name) for name in node.inputs])
            op.layer.bias += shift.mean((0, 2, 3))
        value = op.quantized(inputs, [model.quantizer(name) for name in node.inputs])
        found[node.name] = model.quant[node.name](value) if node.name in model.quant else value
        later = {name for following in network.nodes[i + 1 :] for name in following.inputs}
        wanted, found = ({k: v for k, v in values.items() if k in later} for values in (wanted, found))
