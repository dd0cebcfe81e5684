"""Logistic function."""

import torch

from stages.graph.operations.base import Operation


class Sigmoid(Operation, kind="sigmoid"):
    """1 / (1 + exp(-x)), on the grid that TFLite's kernels ask for: 1/256 at zero point -128.

    TFLite's plain kernels have a table too; entries within a float32 ulp of a half may be one step apart.
    """

    fixed_range = (0.0, 255 / 256)
    tflite = ("LOGISTIC",)

    def forward(self, x):
        return torch.sigmoid(x)

    def simulate(self, inputs, grids, grid):
        """An entry of XNNPACK's table of 256: the function in float64, all else in float32, rounded half to even."""
        scale, zero = grids[0]
        x = (inputs[0] - zero).float() * scale
        return torch.round(self(x.double()).float() / grid[0] + grid[1]).double()
