"""Product of two tensors."""

import numpy as np
import torch

from stages.graph.operations.base import Operation, Scheme


class Mul(Operation, kind="mul"):
    """a * b, of equal shapes. TFLite's plain kernels differ from XNNPACK by one step in 0.4 % of the outputs."""

    arity = 2
    tflite = ("MUL",)

    def forward(self, a, b):
        return a * b

    def simulate(self, inputs, grids, grid):
        return product(inputs, grids, grid)


def product(inputs: list[torch.Tensor], grids: list[Scheme], grid: Scheme) -> torch.Tensor:
    """The integer product of two tensors; requantization by a float32 factor, rounded half to even."""
    (a, b), ((scale_a, zero_a), (scale_b, zero_b)) = inputs, grids
    factor = float(np.float32(scale_a) * np.float32(scale_b) / np.float32(grid[0]))
    return torch.round(((a - zero_a) * (b - zero_b)).float() * factor).double() + grid[1]
