"""Logistic function."""

import torch

from stages.graph.operations.base import Operation


class Sigmoid(Operation, kind="sigmoid"):
    """1 / (1 + exp(-x)), on the grid that TFLite's kernels demand: scale 1/256, zero point -128.

    XNNPACK and TFLite's plain kernels look it up in a table of 256; values within a float32 ulp of a half may differ by
    one step.
    """

    fixed_range = (0.0, 255 / 256)
    tflite = ("LOGISTIC",)

    def forward(self, x):
        return torch.sigmoid(x)

    def simulate(self, inputs, grids, grid):
        """A value of XNNPACK's table: the function in float64, all else in float32, rounded half to even."""
        scale, zero = grids[0]
        x = (inputs[0] - zero).float() * scale
        return torch.round(self(x.double()).float() / grid[0] + grid[1]).double()
