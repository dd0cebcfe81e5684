"""Fake quantization in TFLite's int8 scheme: what the network will compute on integers, trainable in float."""

import json
from collections import Counter
from pathlib import Path

import torch
from torch import nn

from stages.common import manifest
from stages.graph.grids import FakeQuant
from stages.graph.network import Network

INPUT_RANGE = (0.0, 1.0)  # int8 = uint8 - 128


class QuantNetwork(nn.Module):
    """A folded student that computes as its int8 file will; `network` holds the float weights being trained."""

    def __init__(self, folded: Network):
        super().__init__()
        self.network = folded
        self.quant = nn.ModuleDict({"input": FakeQuant(fixed=INPUT_RANGE)})
        self.source: dict[str, str] = {}  # nodes without a grid of their own: whose it is
        self.seen: dict[str, str] = {}  # nodes whose grid needs to hold no more than another one gives
        readers = Counter(name for node in folded.nodes for name in set(node.inputs))
        for node in folded.nodes:
            op, alone = folded.ops[node.name], [name for name in node.inputs if readers[name] == 1]
            if op.keeps_grid:
                self.source[node.name] = node.inputs[0]
            else:
                self.quant[node.name] = FakeQuant(op.limit, op.fixed_range)
            if op.selects:  # values above the largest minimum are in no minimum: they saturate, the grid is finer
                self.seen |= dict.fromkeys(alone, node.name)
            if op.joins_grids:
                free = [name for name in alone if name in self.quant and not self.quant[name].fixed]
                self.source |= dict.fromkeys(free, node.name)
        for name in self.source.keys() & self.quant.keys():
            del self.quant[name]

    def quantizer(self, name: str) -> FakeQuant:
        """The quantizer of the tensor that node `name` writes."""
        return self.quantizer(self.source[name]) if name in self.source else self.quant[name]

    def freeze_ranges(self) -> None:
        for quant in self.quant.values():
            quant.observe = False

    def activations(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        values = {"input": self.quant["input"](images)}
        for node in self.network.nodes:
            inputs, grids = [values[name] for name in node.inputs], [self.quantizer(name) for name in node.inputs]
            x = self.network.ops[node.name].quantized(inputs, grids)
            values[node.name] = self.quant[node.name](x) if node.name in self.quant else x
        return values

    def forward(self, images: torch.Tensor):
        return self.network.outputs(self.activations(images))

    @torch.no_grad()
    def integers(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The int8 tensors, as float64, that the runtime (XNNPACK) computes for uint8 images [N, channels, H, W]."""
        values = {"input": images.double() - 128}
        for node in self.network.nodes:
            inputs, grids = [values[name] for name in node.inputs], [self.quantizer(n).scale_zero for n in node.inputs]
            found = self.network.ops[node.name].simulate(inputs, grids, self.quantizer(node.name).scale_zero)
            values[node.name] = found.clamp(-128, 127)
        return values

    def simulate(self, images: torch.Tensor):
        """The heads among them."""
        return self.network.outputs(self.integers(images))

    @classmethod
    def calibrated(cls, folded: Network, images: torch.Tensor, learned: "QuantNetwork | None" = None) -> "QuantNetwork":
        """Post-training quantization: the smallest and largest value of every tensor over `images` is its range.

        learned: a part of the network; the ranges of what computes the same there are kept.
        """
        model = cls(folded)
        with torch.inference_mode():
            for part in images.split(16):
                values = folded.activations(part)
                for name, quant in model.quant.items():
                    quant.widen(values[model.seen.get(name, name)])
        if learned is not None:
            for name, quant in learned.quant.items():
                ops = [part.ops[name] if name in part.ops else nn.Identity() for part in (learned.network, folded)]
                if name in model.quant and all(map(torch.equal, *(op.parameters() for op in ops))):
                    model.quant[name].range.copy_(quant.range)
        model.freeze_ranges()
        return model.eval()

    def save(self, folder: Path) -> None:
        """Writes the float weights as a student and the learned ranges beside them."""
        self.network.save(folder)
        ranges = {name: quant.range.tolist() for name, quant in self.quant.items()}
        (folder / "ranges.json").write_text(json.dumps(ranges, indent=1, sort_keys=True) + "\n")
        manifest.write(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "QuantNetwork":
        model = cls(Network.load(folder))
        for name, values in json.loads((Path(folder) / "ranges.json").read_text()).items():
            model.quant[name].range.copy_(torch.tensor(values, dtype=torch.float64))
        model.freeze_ranges()
        return model.eval()
