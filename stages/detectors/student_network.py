"""The student's network: a MobileNetV2 trunk (Sandler et al., CVPR 2018) up to block 9, a neck and two heads.

The neck joins the features of strides 8 and 16. The heads are the logits of a defect mask at stride 8 and patch
embeddings at stride 16, which memory_bank.py compares with a memory bank.
"""

from stages.graph.channels import make_divisible
from stages.graph.network import Node

# (expansion, channels, stride) of each inverted residual block: table 2 of the paper
BLOCKS = [(1, 16, 1)] + [(6, 24, 2), (6, 24, 1)] + [(6, 32, 2)] + [(6, 32, 1)] * 2 + [(6, 64, 2)] + [(6, 64, 1)] * 3
TAPS = (5, 9)  # blocks whose outputs (strides 8 and 16) the neck joins
STRIDE, PATCH_STRIDE = 8, 16  # of the mask, and so of the map, and of the patch embeddings
EMBEDDING = 32  # channels of a patch embedding: a choice


def architecture(width: float) -> list[Node]:
    """The nodes of a student whose channels are scaled by `width`; its outputs are `mask` and `embed`.

    The hidden layer before the embeddings costs 3 % more multiply-accumulates. With it, .77 instead of .73 of the
    variance of the teacher's embeddings on validation pictures was explained.
    """
    nodes = [Node("stem", "conv", ("input",), make_divisible(32 * width), 3, 2)]
    tap, before = {}, 32
    for i, (expand, channels, stride) in enumerate(BLOCKS):
        source = previous = nodes[-1].name
        inside, before = make_divisible(before * expand * width), channels
        stream = make_divisible(channels * width, up=True)  # the residual stream: cheap, and all that later blocks see
        if expand != 1:
            nodes.append(Node(f"b{i}_expand", "conv", (source,), inside))
            source = nodes[-1].name
        nodes.append(Node(f"b{i}_depth", "conv", (source,), inside, 3, stride, depthwise=True))
        nodes.append(Node(f"b{i}_project", "conv", (nodes[-1].name,), stream, act=False))
        if i and stride == 1:
            nodes.append(Node(f"b{i}_add", "add", (nodes[-1].name, previous)))
        tap[i] = nodes[-1].name
    neck = make_divisible(64 * width)
    nodes += [
        Node("deep", "conv", (tap[TAPS[1]],), neck),
        Node("deep_up", "up", ("deep",)),
        Node("fine", "conv", (tap[TAPS[0]],), neck),
        Node("joined", "add", ("fine", "deep_up")),
        Node("neck_depth", "conv", ("joined",), neck, 3, depthwise=True),
        Node("neck", "conv", ("neck_depth",), neck),
        Node("mask", "conv", ("neck",), 1, norm=False, act=False),
        Node("patch", "conv", ("neck",), neck, 3, PATCH_STRIDE // STRIDE, depthwise=True),
        Node("hidden", "conv", ("patch",), make_divisible(256 * width)),
        Node("embed", "conv", ("hidden",), EMBEDDING, norm=False, act=False),
    ]
    return nodes
