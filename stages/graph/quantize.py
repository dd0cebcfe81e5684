"""Fake quantization in TFLite's int8 scheme: what the network will compute on integers, trainable in float.

Weights are symmetric per output channel in -127..127, activations asymmetric per tensor in -128..127, biases lie on
the int32 grid s_input * s_weight (https://ai.google.dev/edge/litert/models/quantization_spec).
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from stages.common import manifest
from stages.graph.network import Network

INPUT_RANGE = (0.0, 1.0)  # int8 = uint8 - 128


class Round(torch.autograd.Function):
    """Round half to even; the gradient passes straight through (Bengio et al., 2013)."""

    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, grad):
        return grad


class Grid(torch.autograd.Function):
    """Rounds to an int8 grid (scale, zero point); the gradient passes where nothing was clipped.

    In place, because memory is what a step of training with fake quantization waits for.
    """

    @staticmethod
    def forward(ctx, x, scale, zero):
        ctx.save_for_backward(x)
        ctx.inside = (-128.5 - zero) * scale, (127.5 - zero) * scale
        return x.div(scale).round_().add_(zero).clamp_(-128, 127).sub_(zero).mul_(scale)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, x, *ctx.inside), None, None


def grid(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of the int8 grid that spans low..high and holds 0 exactly, in float32 as the file has it."""
    low, high = np.float32(min(low, 0.0)), np.float32(max(high, 0.0))
    scale = (high - low) / np.float32(255) or np.float32(1)
    return float(scale), int(np.clip(np.rint(-128 - low / scale), -128, 127))


def add_factors(scales: list[float], scale: float) -> tuple[list[int], int]:
    """Fixed-point factors of a sum's inputs and their common shift, the larger of 21 bits: as XNNPACK adds int8."""
    ratios = [np.float32(s) / np.float32(scale) for s in scales]
    shift = 20 - (int(np.frexp(max(ratios))[1]) - 1)
    return [int(np.rint(np.ldexp(ratio, shift))) for ratio in ratios], shift


class FakeQuant(nn.Module):
    """Rounds an activation to its int8 grid; the range is a moving average of batch extremes while `observe` is on."""

    def __init__(self, limit: tuple[float, float] | None = None):
        super().__init__()
        self.limit, self.observe = limit, True
        self.register_buffer("range", torch.tensor([float("nan")] * 2, dtype=torch.float64))

    @torch.no_grad()
    def update(self, x: torch.Tensor) -> None:
        now = torch.stack(x.aminmax()).double()
        if self.limit:
            now = now.clamp(*self.limit)
        self.range.copy_(now if self.range.isnan().any() else self.range.lerp(now, 0.05))

    @torch.no_grad()
    def widen(self, x: torch.Tensor) -> None:
        """Extends the range to all of `x`."""
        now = torch.stack([x.min(), x.max()]).double()
        low, high = (now if self.range.isnan().any() else self.range).tolist()
        widened = torch.tensor([min(low, float(now[0])), max(high, float(now[1]))], dtype=torch.float64)
        self.range.copy_(widened.clamp(*self.limit) if self.limit else widened)

    @property
    def scale_zero(self) -> tuple[float, int]:
        return grid(*self.range.tolist())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.observe and self.training:
            self.update(x)
        return Grid.apply(x, *self.scale_zero)


def fake_quant_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight on its per-channel grid, and the scales [out]."""
    scale = (weight.detach().abs().amax(dim=(1, 2, 3)) / 127).clamp(min=1e-12)
    view = scale.view(-1, 1, 1, 1)
    return torch.clamp(Round.apply(weight / view), -127, 127) * view, scale


class QuantNetwork(nn.Module):
    """A folded student that computes as its int8 file will; `network` holds the float weights being trained."""

    def __init__(self, folded: Network):
        super().__init__()
        self.network = folded
        self.quant = nn.ModuleDict({"input": FakeQuant()})
        self.quant["input"].range.copy_(torch.tensor(INPUT_RANGE))
        self.quant["input"].observe = False
        for node in folded.nodes:
            if node.kind not in ("up", "min"):
                self.quant[node.name] = FakeQuant((0.0, 6.0) if node.kind == "conv" and node.act else None)
        # resizing and the minimum keep the grid of what they take
        self.source = {n.name: n.inputs[0] for n in folded.nodes if n.kind in ("up", "min")}
        # values above the largest minimum are in no minimum: the grid is finer without them, and they saturate
        self.seen = {n.inputs[0]: n.name for n in folded.nodes if n.kind == "min"}

    def quantizer(self, name: str) -> FakeQuant:
        """The quantizer of the tensor that node `name` writes."""
        return self.quantizer(self.source[name]) if name in self.source else self.quant[name]

    def freeze_ranges(self) -> None:
        for quant in self.quant.values():
            quant.observe = False

    def activations(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        values = {"input": self.quant["input"](images)}
        for node in self.network.nodes:
            op, inputs = self.network.ops[node.name], [values[name] for name in node.inputs]
            if node.kind == "conv":
                weight, scale = fake_quant_weight(op.conv.weight)
                step = scale * self.quantizer(node.inputs[0]).scale_zero[0]
                bias = Round.apply(op.conv.bias / step) * step
                x = F.pad(inputs[0], op.pad) if any(op.pad) else inputs[0]
                x = F.conv2d(x, weight, bias, op.conv.stride, 0, 1, op.conv.groups)
                x = F.hardtanh(x, 0.0, 6.0) if op.act else x
            elif node.kind == "up":
                values[node.name] = self._resize(op, inputs[0], self.quantizer(node.name).scale_zero[0])
                continue
            else:
                x = op(*inputs)
            values[node.name] = x if node.kind == "min" else self.quantizer(node.name)(x)
        return values

    @staticmethod
    def _resize(op: nn.Module, x: torch.Tensor, scale: float) -> torch.Tensor:
        """Bilinear resizing on the integers, halves rounded up: what the kernels do, where all else goes to even."""
        steps = op(Round.apply(x / scale))  # multiples of 1/16, exact in float32
        return (steps + (torch.floor(steps + 0.5) - steps).detach()) * scale

    def forward(self, images: torch.Tensor):
        return self.network.outputs(self.activations(images))

    @torch.no_grad()
    def simulate(self, images: torch.Tensor) -> torch.Tensor:
        """The int8 outputs, as float64, that the runtime's kernels (XNNPACK) compute for uint8 images [N, 3, S, S].

        Sums are exact integers. A convolution's sum and a square are requantized by a float32 factor and rounded half
        to even, the sum of two tensors by fixed-point factors, half up; resizing rounds half up.
        """
        values = {"input": images.double() - 128}
        for node in self.network.nodes:
            op, inputs = self.network.ops[node.name], [values[name] for name in node.inputs]
            scale, zero = self.quantizer(node.name).scale_zero
            grids = [self.quantizer(name).scale_zero for name in node.inputs]
            if node.kind == "conv":
                _, weight_scale = fake_quant_weight(op.conv.weight)
                in_scale = torch.tensor(grids[0][0], dtype=torch.float32)
                factor = in_scale * weight_scale / torch.tensor(scale, dtype=torch.float32)
                weight = torch.round(op.conv.weight / weight_scale.view(-1, 1, 1, 1)).clamp(-127, 127).double()
                bias = torch.round(op.conv.bias / (in_scale * weight_scale)).double()
                x = F.pad(inputs[0] - grids[0][1], op.pad)
                total = F.conv2d(x, weight, bias, op.conv.stride, 0, 1, op.conv.groups)
                x = torch.round(total.float() * factor.view(-1, 1, 1)).double() + zero
                x = x.clamp(zero, min(127, round(6 / scale) + zero)) if op.act else x
            elif node.kind == "add":
                factors, shift = add_factors([s for s, _ in grids], scale)
                total = sum((x - z) * f for x, (_, z), f in zip(inputs, grids, factors, strict=True))
                x = torch.floor((total + 2 ** (shift - 1)) / 2**shift) + zero
            elif node.kind == "square":
                one, wide = np.float32(grids[0][0]), np.float32(scale)
                x = torch.round((inputs[0] - grids[0][1]).square().float() * float(one * one / wide)).double() + zero
            elif node.kind == "min":
                x = op(inputs[0])
            else:
                x = torch.floor(op(inputs[0]) + 0.5)
            values[node.name] = x.clamp(-128, 127)
        return values[self.network.heads[0]]

    @classmethod
    def calibrated(cls, folded: Network, images: torch.Tensor, learned: "QuantNetwork | None" = None) -> "QuantNetwork":
        """Post-training quantization: the smallest and largest value of every tensor over `images` is its range.

        learned: a part of the network; the ranges of what computes the same there are kept.
        """
        model = cls(folded)
        with torch.inference_mode():
            for part in images.split(16):
                values = folded.activations(part)
                for name in model.quant.keys() - {"input"}:
                    model.quant[name].widen(values[model.seen.get(name, name)])
        for name, quant in learned.quant.items() if learned else ():
            ops = [part.ops[name] if name in part.ops else nn.Identity() for part in (learned.network, folded)]
            if all(map(torch.equal, *(op.parameters() for op in ops))):
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
