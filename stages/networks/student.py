"""The student: a small fully convolutional network, written as a list of nodes that every later step walks.

Trunk: MobileNetV2 (Sandler et al., CVPR 2018) up to block 9. Its strides 8 and 16 are joined and give a mask of defects
at stride 8 and patch features at stride 16, which stages/networks/bank.py compares with a memory bank. Because the
network is a list, pruning, quantization and the check of the exported file need no tracing.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from stages.common import manifest
from stages.common.errors import UserError

BLOCKS = [(1, 16, 1)] + [(6, 24, 2), (6, 24, 1)] + [(6, 32, 2)] + [(6, 32, 1)] * 2 + [(6, 64, 2)] + [(6, 64, 1)] * 3
TAPS = (5, 9)  # blocks whose outputs (strides 8 and 16) the neck joins
STRIDE, PATCH_STRIDE = 8, 16  # of the mask, and so of the map, and of the patch features
EMBEDDING = 32  # channels of a patch feature


@dataclass(frozen=True)
class Node:
    """One operation: `conv` (with batch norm where `norm`, relu6 where `act`), `add`, `up` (bilinear x 2), `square`, or
    `min` (the smallest of all channels)."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    norm: bool = True
    act: bool = True


class Conv(nn.Module):
    """Convolution with TensorFlow's SAME padding, batch norm and relu6."""

    def __init__(self, node: Node, in_channels: int):
        super().__init__()
        groups = in_channels if node.depthwise else 1
        self.conv = nn.Conv2d(
            in_channels, node.channels, node.kernel, node.stride, groups=groups, bias=not node.norm, padding=0
        )
        self.norm = nn.BatchNorm2d(node.channels, eps=1e-3, momentum=0.05) if node.norm else nn.Identity()
        total = node.kernel - node.stride if node.kernel > 1 else 0  # what SAME adds for sizes that the stride divides
        self.pad = (total // 2, total - total // 2) * 2
        self.act = node.act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, self.pad) if any(self.pad) else x
        x = self.norm(self.conv(x))
        return F.hardtanh(x, 0.0, 6.0) if self.act else x


class Add(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


class Up(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class Square(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x


class Min(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.amin(1, keepdim=True)


OPERATIONS = {"add": Add, "up": Up, "square": Square, "min": Min}  # what has no weights


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


def nodes_channels(nodes: list[Node], name: str) -> int:
    """Channels of the output of node `name` (3 for the input)."""
    if name == "input":
        return 3
    node = next(n for n in nodes if n.name == name)
    if node.kind == "min":
        return 1
    return node.channels if node.kind == "conv" else nodes_channels(nodes, node.inputs[0])


class Student(nn.Module):
    """Runs its nodes in order: images [N, 3, S, S] in 0..1 to the heads, or to a dict of every node's output."""

    def __init__(self, nodes: list[Node]):
        super().__init__()
        self.nodes = nodes
        self.ops = nn.ModuleDict()
        for node in nodes:
            if node.kind == "conv":
                self.ops[node.name] = Conv(node, nodes_channels(nodes, node.inputs[0]))
            elif node.kind in OPERATIONS:
                self.ops[node.name] = OPERATIONS[node.kind]()
            else:
                raise UserError(f"layer {node.name}: {node.kind} can't be quantized; use conv, {', '.join(OPERATIONS)}")

    @property
    def heads(self) -> list[str]:
        """Names of the nodes that no other node takes."""
        used = {name for node in self.nodes for name in node.inputs}
        return [n.name for n in self.nodes if n.name not in used]

    def activations(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        values = {"input": images}
        for node in self.nodes:
            values[node.name] = self.ops[node.name](*[values[name] for name in node.inputs])
        return values

    def forward(self, images: torch.Tensor):
        return self.outputs(self.activations(images))

    def outputs(self, values: dict[str, torch.Tensor]):
        """The heads among the activations: the one that there is, or all in the order of the nodes."""
        found = [values[name] for name in self.heads]
        return found[0] if len(found) == 1 else found

    def save(self, folder: Path) -> None:
        (folder / "nodes.json").write_text(json.dumps([asdict(n) for n in self.nodes], indent=1) + "\n")
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / "model.safetensors")
        manifest.write(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Student":
        folder = manifest.verify(Path(folder))
        nodes = [Node(**{**n, "inputs": tuple(n["inputs"])}) for n in json.loads((folder / "nodes.json").read_text())]
        model = cls(nodes)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval()
