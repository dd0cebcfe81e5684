"""Hyperbolic tangent."""

import torch

from stages.graph.operations.sigmoid import Sigmoid


class Tanh(Sigmoid, kind="tanh"):
    """tanh(x), on the grid that TFLite's kernels demand: scale 1/128, zero point 0.

    XNNPACK fills its table with the C library's tanhf; the exact value is rounded here. Within an ulp of a half the two
    may differ by one step (glibc 2.36: 4 of 3,072,000 values, over 12,000 random grids).
    """

    fixed_range = (-1.0, 127 / 128)
    tflite = ("TANH",)

    def forward(self, x):
        return torch.tanh(x)
