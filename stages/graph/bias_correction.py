"""Post-training quantization: ranges by calibration and least error, spare channels, then bias correction.

Bias correction (Nagel et al., ICCV 2019) takes off a layer's bias what rounding does to the mean of its output. Rounded
weights shift the mean of a channel wherever its inputs are not centred, as behind relu6. In a pretrained
EfficientNet-Lite0 the first depthwise layer alone changed the patch embeddings by a quarter of their variance.
"""

import torch

from stages.graph import streaming
from stages.graph.memory import at_once
from stages.graph.network import Network
from stages.graph.quantize import QuantNetwork
from stages.graph.ranges import narrow_ranges
from stages.graph.spare_channels import fill_spare_channels

CORRECTION = 32  # pictures that ranges are narrowed and biases corrected on, fewer where there is no room: a choice


def calibrated(folded: Network, images: torch.Tensor) -> QuantNetwork:
    """The int8 form of a network with folded batch norm, which is changed: ranges from `images`, float [N, C, H, W] in
    0..1, narrowed (ranges.py) and biases corrected on the first of them, and spare channels filled (spare_channels.py).
    Half of the images should have defects: calibrated on good ones alone, the output saturates below the scores of
    defects."""
    model, some = QuantNetwork.calibrated(folded, images), images[: at_once(folded, *images.shape[2:], most=CORRECTION)]
    narrow_ranges(model, some)
    fill_spare_channels(model)
    correct_biases(model, some)
    return model


def how(count: int, defects: str = "half with defects") -> str:
    """What `calibrated` on `count` images is called in model.json."""
    seen = f"{count} training pictures, {defects}"
    return f"post-training: smallest and largest values on {seen}, narrowed to least squared error; biases corrected"


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
