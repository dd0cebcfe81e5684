"""The student's network: a MobileNetV2 trunk (Sandler et al., CVPR 2018) up to block 9, a mask and patch embeddings.

Its strides 8 and 16 are joined and give a mask of defects at stride 8 and a patch embedding at stride 16, which
memory_bank.py compares with a memory bank.
"""

import math

from stages.graph.network import Node

BLOCKS = [(1, 16, 1)] + [(6, 24, 2), (6, 24, 1)] + [(6, 32, 2)] + [(6, 32, 1)] * 2 + [(6, 64, 2)] + [(6, 64, 1)] * 3
TAPS = (5, 9)  # blocks whose outputs (strides 8 and 16) the neck joins
STRIDE, PATCH_STRIDE = 8, 16  # of the mask, and so of the map, and of the patch features
EMBEDDING = 32  # channels of a patch feature


def rounded(channels: float) -> int:
    """The nearest multiple of 8, at least 8: what integer kernels work in."""
    return max(8, int(channels + 4) // 8 * 8)


def rounded_up(channels: float) -> int:
    """The next multiple of 8: for the stream between blocks, which costs little and carries all that later ones see."""
    return math.ceil(channels / 8) * 8


def architecture(width: float) -> list[Node]:
    """The nodes of a student whose channels are scaled by `width`; its outputs are `mask` and `embed`."""
    nodes = [Node("stem", "conv", ("input",), rounded(32 * width), 3, 2)]
    tap, before = {}, 32
    for i, (expand, channels, stride) in enumerate(BLOCKS):
        source = previous = nodes[-1].name
        inside, before = rounded(before * expand * width), channels
        if expand != 1:
            nodes.append(Node(f"b{i}_expand", "conv", (source,), inside))
            source = nodes[-1].name
        nodes.append(Node(f"b{i}_depth", "conv", (source,), inside, 3, stride, depthwise=True))
        nodes.append(Node(f"b{i}_project", "conv", (nodes[-1].name,), rounded_up(channels * width), act=False))
        if i and stride == 1:
            nodes.append(Node(f"b{i}_add", "add", (nodes[-1].name, previous)))
        tap[i] = nodes[-1].name
    neck = rounded(64 * width)
    nodes += [
        Node("deep", "conv", (tap[TAPS[1]],), neck),
        Node("deep_up", "up", ("deep",)),
        Node("fine", "conv", (tap[TAPS[0]],), neck),
        Node("joined", "add", ("fine", "deep_up")),
        Node("neck_depth", "conv", ("joined",), neck, 3, depthwise=True),
        Node("neck", "conv", ("neck_depth",), neck),
        Node("mask", "conv", ("neck",), 1, norm=False, act=False),
        Node("patch", "conv", ("neck",), neck, 3, PATCH_STRIDE // STRIDE, depthwise=True),
        Node("hidden", "conv", ("patch",), rounded(256 * width)),
        Node("embed", "conv", ("hidden",), EMBEDDING, norm=False, act=False),
    ]
    return nodes
