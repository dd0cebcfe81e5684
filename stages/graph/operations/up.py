"""Bilinear enlargement."""

import torch
import torch.nn.functional as F

from stages.graph.grids import Round
from stages.graph.operations.base import Operation


class Up(Operation, kind="up"):
    """Bilinear x 2 with half-pixel centres. TFLite's plain kernels differ from XNNPACK by one step in 4 % of the
    outputs."""

    keeps_grid = True
    cancels = True
    tflite = ("RESIZE_BILINEAR",)

    @classmethod
    def size(cls, node, height, width):
        return 2 * height, 2 * width

    def forward(self, x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    def quantized(self, inputs, grids):
        """On the integers, rounded half up as the kernels do (a grid rounds half to even)."""
        scale, _ = grids[0].scale_zero
        steps = self(Round.apply(inputs[0] / scale))  # multiples of 1/16, exact in float32
        return (steps + (torch.floor(steps + 0.5) - steps).detach()) * scale

    def simulate(self, inputs, grids, grid):
        return torch.floor(self(inputs[0]) + 0.5)
