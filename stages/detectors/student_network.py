"""The student's network: a trunk of inverted residuals, a neck with the logits of a defect mask, patch embeddings.

Patch embeddings are locally aware (PatchCore, Roth et al., CVPR 2022) and come from two places, each with a memory bank
of its own: fine features (stride 8) know small and pale defects, deep ones (stride 16) know what belongs where. Joined
in one bank, one hid what the other knew.
"""

import math
from collections.abc import Sequence

import torch

from stages.detectors.trunks import DEEP, FINE, Stage, trunk_nodes
from stages.graph.channels import make_divisible
from stages.graph.network import Network, Node, nodes_channels

STRIDE, PATCH_STRIDE = FINE, DEEP  # of the mask, and so of the map, and of the patch embeddings
EMBEDDING = 32  # channels of a patch embedding: a choice (64 was better on the pill, twice the entries on the tiles)
NECK = 88  # channels of the neck at width 1: a choice
SOURCES = ("fine", "deep")  # of patch embeddings


def architecture(stages: Sequence[Stage], width: float, widest: float = math.inf) -> list[Node]:
    """The nodes of a student without memory banks; its outputs are `mask`, `embed_fine` and `embed_deep`.

    width scales the channels, those of the trunk up to `widest`. The neck joins fine and deep features.
    """
    trunk, taps = trunk_nodes(stages, min(width, widest))
    fine, deep, neck = taps[FINE], taps[DEEP], make_divisible(NECK * width)
    nodes = [
        *trunk,
        Node("deep", "conv", (deep,), neck),
        Node("deep_up", "up", ("deep",)),
        Node("fine", "conv", (fine,), neck),
        Node("joined", "add", ("fine", "deep_up")),
        Node("neck_depth", "conv", ("joined",), neck, 3, depthwise=True),
        Node("neck", "conv", ("neck_depth",), neck),
        Node("mask", "conv", ("neck",), 1, norm=False, act=False),
    ]
    for source, tap, kernel in (("fine", fine, 4), ("deep", deep, 3)):  # 4: 3 x 3 means, of which 2 x 2 are averaged
        channels, stride = nodes_channels(trunk, tap), PATCH_STRIDE // (FINE if source == "fine" else DEEP)
        pool = f"pool_{source}"
        nodes += [
            Node(pool, "conv", (tap,), channels, kernel, stride, depthwise=True, norm=False, act=False),
            Node(f"embed_{source}", "conv", (pool,), EMBEDDING, norm=False, act=False),
        ]
    return nodes


def taps(student: Network) -> dict[str, str]:
    """The node whose features each source of patch embeddings takes."""
    return {node.name[len("pool_") :]: node.inputs[0] for node in student.nodes if node.name.startswith("pool_")}


@torch.no_grad()
def set_pooling(student: Network) -> None:
    """Gives the depthwise convolutions before the embeddings the weights of a local mean."""
    for node in student.nodes:
        if node.name.startswith("pool_"):
            line = torch.ones(3) if node.kernel == 3 else torch.tensor([1.0, 2.0, 2.0, 1.0])
            conv = student.ops[node.name].conv
            conv.weight.copy_((line.outer(line) / line.sum() ** 2).expand_as(conv.weight))
            conv.bias.zero_()
