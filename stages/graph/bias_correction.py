"""Post-training quantization: ranges by calibration, then bias correction.

Bias correction (Nagel et al., ICCV 2019) takes off a layer's bias what rounding does to the mean of its output. Rounded
weights shift the mean of a channel wherever its inputs are not centred, as behind relu6. In a pretrained
EfficientNet-Lite0 the first depthwise layer alone changed the patch embeddings by a quarter of their variance.
"""

import torch

from stages.graph import streaming
from stages.graph.memory import at_once
from stages.graph.network import Network
from stages.graph.quantize import QuantNetwork

CORRECTION = 32  # pictures that biases are corrected on, fewer where there is no room for them: a choice


def calibrated(folded: Network, images: torch.Tensor) -> QuantNetwork:
    """The int8 form of a network with folded batch norm, which is changed: ranges from `images`, float [N, C, H, W] in
    0..1, and biases corrected on the first of them. Half of the images should have defects: calibrated on good ones
    alone, the output saturates below the scores of defects."""
    model = QuantNetwork.calibrated(folded, images)
    correct_biases(model, images[: at_once(folded, *images.shape[2:], most=CORRECTION)])
    return model


def how(count: int, defects: str = "half with defects") -> str:
    """What `calibrated` on `count` images is called in model.json."""
    return f"post-training: smallest and largest values on {count} training pictures, {defects}; biases corrected"


@torch.no_grad()
def correct_biases(model: QuantNetwork, images: torch.Tensor) -> None:
    """Changes the biases of a calibrated network in place, from the first layer to the last, so that the output of each
    convolution, before its activation function, has the mean of the float network's over `images`, float [N, C, H, W]
    in 0..1, of a network with states clips; the ranges stay as they are."""
    network = model.network
    wanted = streaming.drawn(network, images)
    found = {name: model.quantizer(name)(value.clone()) for name, value in wanted.items()}
    for i, node in enumerate(network.nodes):
        if node.name in wanted:
            continue
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
