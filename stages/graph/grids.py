"""Fake quantization in TFLite's int8 scheme: rounding to an int8 grid (scale, zero point), with a gradient.

Weights are symmetric per output channel in -127..127, activations asymmetric per tensor in -128..127
(https://ai.google.dev/edge/litert/models/quantization_spec).
"""

import math

import numpy as np
import torch
from torch import nn

from stages.graph.tensors import diverged


class Round(torch.autograd.Function):
    """Rounds half to even; the gradient passes unchanged (straight-through estimator, Bengio et al., 2013)."""

    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, grad):
        return grad


class Grid(torch.autograd.Function):
    """Fake quantization to an int8 grid (scale, zero point); the gradient passes where a value was not clipped.

    In place: allocating tensors took most of a training step (at 256 px 2.5 s, now 0.85 s).
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
    """Scale and zero point of the int8 grid that spans low..high and holds 0 exactly, in float32 like the file's."""
    if not (math.isfinite(low) and math.isfinite(high)):
        raise diverged(f"a range of values is {low}..{high}")
    lowest, highest = np.float32(min(low, 0.0)), np.float32(max(high, 0.0))
    scale = (highest - lowest) / np.float32(255) or np.float32(1)
    return float(scale), int(np.clip(np.rint(-128 - lowest / scale), -128, 127))


def fake_quant_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The convolution weight [out, in, k, k] rounded to its per-channel grids, and their scales [out]."""
    scale = (weight.detach().abs().amax(dim=(1, 2, 3)) / 127).clamp(min=1e-12)
    view = scale.view(-1, 1, 1, 1)
    return torch.clamp(Round.apply(weight / view), -127, 127) * view, scale


class FakeQuant(nn.Module):
    """Fake quantization of an activation.

    In training, while `observe` is on, the range follows smallest and largest value of each batch as a moving average.
    limit: bounds of an observed range. fixed: the range, whatever the values are.
    """

    def __init__(self, limit: tuple[float, float] | None = None, fixed: tuple[float, float] | None = None):
        super().__init__()
        self.limit, self.fixed, self.observe = limit, fixed is not None, fixed is None
        self.register_buffer("range", torch.tensor(fixed or [float("nan")] * 2, dtype=torch.float64))

    @torch.no_grad()
    def update(self, x: torch.Tensor) -> None:
        """Moves the range towards the extremes of `x`: by 0.05, a choice, so it averages over about 20 batches."""
        now = torch.stack(x.aminmax()).double()
        if self.limit:
            now = now.clamp(*self.limit)
        self.range.copy_(now if self.range.isnan().any() else self.range.lerp(now, 0.05))

    @torch.no_grad()
    def widen(self, x: torch.Tensor) -> None:
        """Calibration: extends the range to all of `x`, unless it is fixed."""
        if self.fixed:
            return
        now = torch.stack([x.min(), x.max()]).double()
        low, high = (now if self.range.isnan().any() else self.range).tolist()
        widened = torch.tensor([min(low, float(now[0])), max(high, float(now[1]))], dtype=torch.float64)
        self.range.copy_(widened.clamp(*self.limit) if self.limit else widened)

    @property
    def scale_zero(self) -> tuple[float, int]:
        """Scale and zero point."""
        return grid(*self.range.tolist())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.observe and self.training:
            self.update(x)
        return Grid.apply(x, *self.scale_zero)
