"""A network with fake quantization, trained to compute what TFLite's int8 file will, and its simulation, exact for
XNNPACK's kernels."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from stages.common import manifest
from stages.graph import streaming
from stages.graph.grids import FakeQuant
from stages.graph.memory import at_once
from stages.graph.network import Network

NONE: Mapping[str, torch.Tensor] = {}
INPUT_RANGE = (0.0, 1.0)  # scale 1/255, zero point -128: the int8 input is the picture's uint8 - 128


class QuantNetwork(nn.Module):
    """A network with folded batch norm that computes what its int8 file will; `network` holds the float weights.

    quant: the fake quantization of each tensor, by the node that writes it; training or `calibrated` sets the ranges.
    """

    def __init__(self, folded: Network):
        super().__init__()
        self.network = folded
        self.quant = nn.ModuleDict({"input": FakeQuant(fixed=INPUT_RANGE)})
        self.source: dict[str, str] = {}  # nodes without a grid of their own: the node whose grid they use
        self.seen: dict[str, str] = {}  # nodes whose range is calibrated on the output of another node
        readers = Counter(name for node in folded.nodes for name in set(node.inputs))
        for node in folded.nodes:
            op, alone = folded.ops[node.name], [name for name in node.inputs if readers[name] == 1]
            if node.name in folded.states:
                self.source[node.name] = folded.states[node.name]
            elif op.keeps_grid:
                self.source[node.name] = node.inputs[0]
            else:
                self.quant[node.name] = FakeQuant(op.limit, op.fixed_range)
            if (
                op.selects
            ):  # values above the largest minimum are never chosen: they may saturate, and the grid is finer
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
        """Ends the observation of ranges in training."""
        for quant in self.quant.values():
            quant.observe = False

    def activations(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The input and every node's output with fake quantization, by name; images: float [N, C, H, W] in 0..1."""
        values = {"input": self.quant["input"](images)}
        for node in self.network.nodes:
            inputs, grids = [values[name] for name in node.inputs], [self.quantizer(name) for name in node.inputs]
            x = self.network.ops[node.name].quantized(inputs, grids)
            values[node.name] = self.quant[node.name](x) if node.name in self.quant else x
        return values

    def forward(self, images: torch.Tensor):
        return self.network.outputs(self.activations(images))

    @torch.no_grad()
    def integers(self, images: torch.Tensor, given: Mapping[str, torch.Tensor] = NONE) -> dict[str, torch.Tensor]:
        """The int8 tensors that TFLite's XNNPACK kernels compute for uint8 images [N, channels, H, W], exactly: the
        integers in float64, requantization included. given: the integers of states that are not zero."""
        values = {"input": images.double() - 128, **given}
        for node in self.network.nodes:
            if node.name in given:
                continue
            inputs, grids = [values[name] for name in node.inputs], [self.quantizer(n).scale_zero for n in node.inputs]
            found = self.network.ops[node.name].simulate(inputs, grids, self.quantizer(node.name).scale_zero)
            values[node.name] = found.clamp(-128, 127)
        return values

    def simulate(self, images: torch.Tensor):
        """The heads among `integers`."""
        return self.network.outputs(self.integers(images))

    @classmethod
    def calibrated(cls, folded: Network, images: torch.Tensor, learned: "QuantNetwork | None" = None) -> "QuantNetwork":
        """Post-training quantization by min-max calibration: the range of a tensor is from its smallest to its largest
        value over `images`, float [N, channels, H, W] in 0..1; of a network with states they are clips [N, T, H, W].

        learned: a trained network that is part of this one; its ranges are kept where nodes have the same weights.
        """
        model = cls(folded)
        with torch.inference_mode():
            for batch in images.split(at_once(folded, *images.shape[2:], most=16)):
                for values in streaming.steps(streaming.run(folded), folded, batch):
                    for name, quant in model.quant.items():
                        quant.widen(values[model.seen.get(name, name)])
        if learned is not None:
            for name, quant in learned.quant.items():
                ops = [net.ops[name] if name in net.ops else nn.Identity() for net in (learned.network, folded)]
                if name in model.quant and all(map(torch.equal, *(op.parameters() for op in ops))):
                    model.quant[name].range.copy_(quant.range)
        model.freeze_ranges()
        return model.eval()

    def save(self, folder: Path) -> None:
        """Writes the network with its float weights, and the ranges beside it."""
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
