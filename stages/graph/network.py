"""A network as a list of nodes: pruning, quantization and the check of the exported file walk it without tracing."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from edge.errors import UserError
from stages.common import manifest


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


def nodes_channels(nodes: list[Node], name: str, channels: int = 3) -> int:
    """Channels of the output of node `name` (3 for the input)."""
    if name == "input":
        return channels
    node = next(n for n in nodes if n.name == name)
    if node.kind == "min":
        return 1
    return node.channels if node.kind == "conv" else nodes_channels(nodes, node.inputs[0], channels)


class Network(nn.Module):
    """Runs its nodes in order: images [N, 3, S, S] in 0..1 to the heads, or to a dict of every node's output."""

    def __init__(self, nodes: list[Node], channels: int = 3):
        super().__init__()
        self.nodes, self.channels = nodes, channels
        self.ops = nn.ModuleDict()
        for node in nodes:
            if node.kind == "conv":
                self.ops[node.name] = Conv(node, nodes_channels(nodes, node.inputs[0], channels))
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
    def load(cls, folder: str | Path) -> "Network":
        folder = manifest.verify(Path(folder))
        nodes = [Node(**{**n, "inputs": tuple(n["inputs"])}) for n in json.loads((folder / "nodes.json").read_text())]
        model = cls(nodes)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval()
