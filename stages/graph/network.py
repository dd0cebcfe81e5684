"""A network as a list of nodes: pruning, quantization and the check of the exported file need no tracing."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edge.errors import UserError
from stages.common import manifest
from stages.graph.node import Node
from stages.graph.operations import KINDS

__all__ = ["Network", "Node", "cost", "costs", "nodes_channels", "states"]


def _channels(nodes: Sequence[Node], channels: int) -> dict[str, int]:
    """Channels of every node's output and of the input; UserError for nodes that make no network."""
    found = {"input": channels}
    known: dict[str, Node | None] = {"input": None}
    for node in nodes:
        kind = KINDS.get(node.kind)
        if kind is None:
            raise UserError(f"layer {node.name}: {node.kind} can't be quantized; use {', '.join(KINDS)}")
        missing = [name for name in node.inputs if name not in found]
        if missing:
            raise UserError(f"layer {node.name}: takes {missing[0]}, which no layer before it gives")
        kind.check(node, [known[name] for name in node.inputs])
        found[node.name] = kind.channels(node, [found[name] for name in node.inputs])
        known[node.name] = node
    for name, following in states(nodes).items():
        if found.get(following) != found[name]:
            raise UserError(f"layer {name}: its next value {following} is no layer of {found[name]} channels")
    return found


def states(nodes: Sequence[Node]) -> dict[str, str]:
    """The nodes that are states, and of each the node that gives its next value."""
    return {node.name: node.options["next"] for node in nodes if node.kind == "state"}


def nodes_channels(nodes: Sequence[Node], name: str, channels: int = 3) -> int:
    """Channels of the output of node `name`, where the input has `channels`."""
    return _channels(nodes, channels)[name]


def costs(nodes: Sequence[Node], height: int, width: int, channels: int = 3) -> Iterator[tuple[Node, int, int, int]]:
    """Every node with its parameters, its multiply-accumulates for one picture and the values of its output, with
    folded batch norm."""
    depth, sizes = _channels(nodes, channels), {"input": (height, width)}
    for node in nodes:
        kind, given = KINDS[node.kind], {sizes[name] for name in node.inputs}
        if len(given) > 1:
            raise UserError(f"layer {node.name}: its inputs have different sizes {sorted(given)} (height, width)")
        sizes[node.name] = rows, columns = kind.size(node, *given.pop())
        params, macs = kind.cost(node, [depth[name] for name in node.inputs], rows, columns)
        yield node, params, macs, depth[node.name] * rows * columns


def cost(nodes: Sequence[Node], height: int, width: int, channels: int = 3) -> dict[str, int]:
    """`params` and `macs` (multiply-accumulates for one picture) of the network with folded batch norm."""
    found = list(costs(nodes, height, width, channels))
    return {"params": sum(params for _, params, _, _ in found), "macs": sum(macs for _, _, macs, _ in found)}


class Network(nn.Module):
    """Runs its nodes in order: images [N, channels, H, W] in 0..1 to its heads, the outputs that no node takes.

    One with states also takes them, in their order (none: zero), and returns their next values behind its heads.
    """

    def __init__(self, nodes: Sequence[Node], channels: int = 3):
        super().__init__()
        self.nodes, self.channels = nodes, channels
        depth = _channels(nodes, channels)
        self.ops = nn.ModuleDict({n.name: KINDS[n.kind](n, [depth[name] for name in n.inputs]) for n in nodes})

    @property
    def heads(self) -> list[str]:
        """Names of the nodes that no other node takes, and that are no state's next value."""
        used = {name for node in self.nodes for name in node.inputs} | set(self.states.values())
        return [n.name for n in self.nodes if n.name not in used]

    @property
    def states(self) -> dict[str, str]:
        """The nodes that are states, and of each the node that gives its next value."""
        return states(self.nodes)

    @property
    def results(self) -> list[str]:
        """Names of the nodes whose values are outputs: the heads, then the next values of states."""
        return [*self.heads, *self.states.values()]

    def zeros(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The states before the first of such images."""
        return [self.ops[name](images) for name in self.states]

    @property
    def layers(self) -> dict[str, nn.Conv2d]:
        """The layers with weights, by the names of their nodes."""
        return {name: op.layer for name, op in self.ops.items() if op.layer is not None}

    def cost(self, height: int, width: int) -> dict[str, int]:
        """`params` and `macs` (multiply-accumulates for one picture) with folded batch norm."""
        return cost(self.nodes, height, width, self.channels)

    def activations(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The input and every node's output [N, C, h, w], by name."""
        return self.continued({"input": images})

    def continued(self, values: dict[str, torch.Tensor], only=None) -> dict[str, torch.Tensor]:
        """The given activations, and those of all nodes that follow from them. only: names of the nodes wanted."""
        values = dict(values)
        for node in self.nodes:
            new = node.name not in values and (only is None or node.name in only)
            if new and all(name in values for name in node.inputs):
                values[node.name] = self.ops[node.name](*[values[name] for name in node.inputs])
        return values

    def forward(self, images: torch.Tensor, *given: torch.Tensor):
        return self.outputs(self.continued({"input": images, **dict(zip(self.states, given, strict=bool(given)))}))

    def outputs(self, values: dict[str, torch.Tensor]):
        """The results among the activations: a tensor if there is one, else a list."""
        found = [values[name] for name in self.results]
        return found[0] if len(found) == 1 else found

    def save(self, folder: Path) -> None:
        graph = {"channels": self.channels, "nodes": [n.to_json() for n in self.nodes]}
        (folder / "nodes.json").write_text(json.dumps(graph, indent=1) + "\n")
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / "model.safetensors")
        manifest.write(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Network":
        folder = manifest.verify(Path(folder))
        graph = json.loads((folder / "nodes.json").read_text())
        if isinstance(graph, list):  # before the channels of the input were stored
            graph = {"channels": 3, "nodes": graph}
        model = cls([Node.from_json(fields) for fields in graph["nodes"]], graph["channels"])
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval()
