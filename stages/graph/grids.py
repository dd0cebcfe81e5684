"""Int8 grids in TFLite's scheme, and rounding to them that a gradient passes through.

Weights are symmetric per output channel in -127..127, activations asymmetric per tensor in -128..127
(https://ai.google.dev/edge/litert/models/quantization_spec).
"""

import numpy as np
import torch
from torch import nn


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
    lowest, highest = np.float32(min(low, 0.0)), np.float32(max(high, 0.0))
    scale = (highest - lowest) / np.float32(255) or np.float32(1)
    return float(scale), int(np.clip(np.rint(-128 - lowest / scale), -128, 127))


def fake_quant_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight on its per-channel grid, and the scales [out]."""
    scale = (weight.detach().abs().amax(dim=(1, 2, 3)) / 127).clamp(min=1e-12)
    view = scale.view(-1, 1, 1, 1)
    return torch.clamp(Round.apply(weight / view), -127, 127) * view, scale


class FakeQuant(nn.Module):
    """Rounds an activation to its int8 grid; the range is a moving average of batch extremes while `observe` is on.

    limit: no observed range goes beyond it. fixed: the range is this one, whatever is seen.
    """

    def __init__(self, limit: tuple[float, float] | None = None, fixed: tuple[float, float] | None = None):
        super().__init__()
        self.limit, self.fixed, self.observe = limit, fixed is not None, fixed is None
        self.register_buffer("range", torch.tensor(fixed or [float("nan")] * 2, dtype=torch.float64))

    @torch.no_grad()
    def update(self, x: torch.Tensor) -> None:
        now = torch.stack(x.aminmax()).double()
        if self.limit:
            now = now.clamp(*self.limit)
        self.range.copy_(now if self.range.isnan().any() else self.range.lerp(now, 0.05))

    @torch.no_grad()
    def widen(self, x: torch.Tensor) -> None:
        """Extends the range to all of `x`, unless it is fixed."""
        if self.fixed:
            return
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
