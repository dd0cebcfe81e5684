"""Sum of two tensors."""

import numpy as np
import torch

from stages.graph.operations.base import Operation


class Add(Operation, kind="add"):
    """a + b, of equal shapes. TFLite's plain kernels differ from XNNPACK by one step in 1 of 100,000 outputs."""

    arity = 2
    sums = True
    cancels = True
    tflite = ("ADD",)
    signs = (1, 1)

    def forward(self, a, b):
        return a + b

    def simulate(self, inputs, grids, grid):
        """Requantization by fixed-point factors and a shift that rounds half up."""
        factors, shift = fixed_point([scale for scale, _ in grids], grid[0])
        terms = zip(inputs, grids, factors, self.signs, strict=True)
        total = sum((x - zero) * factor * sign for x, (_, zero), factor, sign in terms)
        return torch.floor((total + 2 ** (shift - 1)) / 2**shift) + grid[1]


def fixed_point(scales: list[float], scale: float) -> tuple[list[int], int]:
    """Fixed-point factors of a sum's inputs, the largest of 21 bits, and their common right shift, as in XNNPACK."""
    ratios = [np.float32(s) / np.float32(scale) for s in scales]
    shift = 20 - (int(np.frexp(max(ratios))[1]) - 1)
    return [int(np.rint(np.ldexp(ratio, shift))) for ratio in ratios], shift
