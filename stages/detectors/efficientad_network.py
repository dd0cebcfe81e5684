"""The networks of EfficientAD (Batzner et al., WACV 2024, tables 6 to 8) as nodes: teacher, student and autoencoder.

The paper's student has twice the teacher's channels, the second half of which imitates the autoencoder. Here its last
convolution is two, which is the same function.
"""

from collections.abc import Sequence
from typing import Any

import torch

from edge.errors import UserError
from stages.graph.network import Network, Node

CHANNELS = 384  # of the teacher's features
STRIDE, BORDER = 4, 4  # of the maps; positions that are missing at each edge, since no convolution is padded
POOL = "pool"
# of a patch description network (PDN): channels and kernel of each convolution, None for the outputs; an average of
# 2 x 2 where there is POOL
LAYERS: dict[str, tuple] = {
    "small": ((128, 4), POOL, (256, 4), POOL, (256, 3), (None, 4)),
    "medium": ((256, 4), POOL, (512, 4), POOL, (512, 1), (512, 3), (None, 4), (None, 1)),
}
ENCODER = (32, 32, 64, 64, 64)  # channels of the autoencoder's convolutions of 4 x 4 with stride 2
HIDDEN = 64  # its further channels
MAPS = {"local": ("teacher", "student_local"), "global": ("autoencoder", "student_global")}
PLAIN: dict[str, Any] = {"norm": False, "act": False}
RELU: dict[str, Any] = {"norm": False, "act": "relu"}


def receptive_field(size: str) -> int:
    """The side in pixels of what one output of the patch description network sees."""
    field, jump = 1, 1
    for layer in LAYERS[size]:
        field += jump * ((2 if layer == POOL else layer[1]) - 1)
        jump *= 2 if layer == POOL else 1
    return field


def description(name: str, size: str, outputs: int, heads: Sequence[str]) -> list[Node]:
    """A patch description network: images [N, C, S, S] to [N, outputs, S / 4 - 8, S / 4 - 8] of each head."""
    nodes: list[Node] = []
    last = "input"
    *body, (_, kernel) = LAYERS[size]
    for i, layer in enumerate(body):
        if layer == POOL:
            nodes.append(Node(f"{name}_{i}", "pool", (last,), kernel=2, stride=2, padding="valid"))
        else:
            channels = layer[0] or outputs * len(heads)
            nodes.append(Node(f"{name}_{i}", "conv", (last,), channels, layer[1], padding="valid", **RELU))
        last = nodes[-1].name
    return nodes + [Node(head, "conv", (last,), outputs, kernel, padding="valid", **PLAIN) for head in heads]


def autoencoder(side: int, outputs: int) -> list[Node]:
    """The autoencoder: images [N, C, side, side] to [N, outputs, side / 4 - 8, side / 4 - 8], by way of 64 numbers."""
    nodes: list[Node] = []
    last = "input"
    for i, channels in enumerate(ENCODER):
        nodes.append(Node(f"encode_{i}", "conv", (last,), channels, 4, 2, padding=(1, 1, 1, 1), **RELU))
        last = nodes[-1].name
    nodes.append(Node("code", "conv", (last,), HIDDEN, side // 32, padding="valid", **PLAIN))
    sides = (side // 64 - 1, side // 32, side // 16 - 1, side // 8, side // 4 - 1, side // 2 - 1)
    last = "code"
    for i, larger in enumerate(max(1, found) for found in sides):
        nodes += [
            Node(f"resize_{i}", "resize", (last,), options={"size": (larger, larger)}),
            Node(f"decode_{i}", "conv", (f"resize_{i}",), HIDDEN, 4, padding=(2, 2, 2, 2), **RELU),
        ]
        last = f"decode_{i}"
    end = side // STRIDE - 2 * BORDER
    return [
        *nodes,
        Node("resize", "resize", (last,), options={"size": (end, end)}),
        Node("decode", "conv", ("resize",), HIDDEN, 3, **RELU),
        Node("autoencoder", "conv", ("decode",), outputs, 3, **PLAIN),
    ]


def architecture(size: str, side: int, outputs: int = CHANNELS) -> list[Node]:
    """All three with the anomaly map `map` [N, 1, side / 4, side / 4]: the sum of `map_local`, what the student doesn't
    know of the teacher, and `map_global`, what it doesn't of the autoencoder. UserError for a side that is too small.
    """
    if side // STRIDE <= 2 * BORDER:
        raise UserError(f"input.size = {side}: EfficientAD needs pictures of 48 pixels or more")
    nodes = description("teacher_", size, outputs, ["teacher"])
    nodes += description("student_", size, outputs, ["student_local", "student_global"]) + autoencoder(side, outputs)
    for part, pair in MAPS.items():
        nodes += [
            Node(f"difference_{part}", "sub", pair),
            Node(f"square_{part}", "square", (f"difference_{part}",)),
            Node(f"map_{part}", "conv", (f"square_{part}",), 1, padding=(BORDER,) * 4, **PLAIN),
        ]
    return [*nodes, Node("map", "add", tuple(f"map_{part}" for part in MAPS))]


@torch.no_grad()
def weigh(network: Network, scales: dict[str, tuple[float, float]]) -> None:
    """Makes each part of the map `scale` times the mean over channels plus `shift`; scales: {part: (scale, shift)}."""
    for part, (scale, shift) in scales.items():
        conv = network.layers[f"map_{part}"]
        conv.weight.fill_(scale / conv.weight.shape[1])
        conv.bias.fill_(shift)
