"""The network of a supervised detector: a pretrained trunk, fine and deep features joined, a dense head, and the class
activation map, which is its output.

The dense layer stands before the pooling, as a 1 x 1 convolution: so every place of the map has a logit of its own, and
the image's logit is their maximum (Oquab et al., "Is object localization for free?", CVPR 2015). With a mean instead
(Zhou et al., CVPR 2016) a defect of few pixels would hardly count.
"""

import torch

from edge.errors import UserError
from stages.detectors.student_init import found, pretrained, transplant
from stages.detectors.trunks import DEEP, FINE, Stage, trunk_nodes
from stages.graph.batchnorm import recalibrate
from stages.graph.network import Network, Node

NECK = 64  # channels in which fine and deep features are joined: a choice
PRIOR = -2.0  # the logit before training, as of a rare class (Lin et al., section 4.1): a choice
LOGITS = "activation"  # the node with the class activation map before the logistic function
DENSE = "dense"


def architecture(stages: list[Stage], dense: int) -> list[Node]:
    """The nodes; the output `map` [N, 1, S / 8, S / 8] is the probability of a defect at each place."""
    trunk, taps = trunk_nodes(stages, 1)
    return [
        *trunk,
        Node("deep", "conv", (taps[DEEP],), NECK),
        Node("deep_up", "up", ("deep",)),
        Node("fine", "conv", (taps[FINE],), NECK),
        Node("joined", "add", ("fine", "deep_up")),
        Node("around", "conv", ("joined",), NECK, 3, depthwise=True),
        Node(DENSE, "conv", ("around",), dense),
        Node(LOGITS, "conv", (DENSE,), 1, norm=False, act=False),
        Node("map", "sigmoid", (LOGITS,)),
    ]


def new_network(weights: str, dense: int, images: torch.Tensor) -> Network:
    """An untrained network whose trunk has the pretrained `weights` (a hub name or a folder), or random ones (scratch).

    images: float [N, C, S, S] in 0..1, on which batch norm is calibrated. UserError for weights that can't be loaded.
    """
    try:
        stages, layers = found(weights)
    except UserError as error:
        raise UserError(str(error).replace("student.init", "settings.weights").replace("a student", "it")) from None
    network = Network(architecture(stages, dense), images.shape[1])
    if layers is not None:
        transplant(pretrained(stages, layers, images), network)
    torch.nn.init.constant_(network.ops[LOGITS].conv.bias, PRIOR)
    if layers is None:
        recalibrate(network, images)
    return network.eval()


def frozen(network: Network, trained: str) -> list[str]:
    """The nodes whose features what is `trained` begins with: all (the input), deep (stride 8) or head (both taps)."""
    inputs = {node.name: node.inputs[0] for node in network.nodes}
    return {"all": ["input"], "deep": [inputs["fine"]], "head": [inputs["fine"], inputs["deep"]]}[trained]
