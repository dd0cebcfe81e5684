"""Hyperbolic tangent."""

import torch

from stages.graph.operations.sigmoid import Sigmoid


class Tanh(Sigmoid, kind="tanh"):
    """tanh(x), on the grid that TFLite's kernels ask for: 1/128 at zero point 0.

    XNNPACK takes the C library's tanhf, here its exact value rounded: where that lies within an ulp of a half, an entry
    of the table may be one step apart (glibc 2.36: 4 of 3,072,000 entries, over 12,000 random grids).
    """

    fixed_range = (-1.0, 127 / 128)
    tflite = ("TANH",)

    def forward(self, x):
        return torch.tanh(x)
