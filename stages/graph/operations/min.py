"""Minimum over all channels."""

from stages.graph.operations.base import Operation


class Min(Operation, kind="min"):
    """The smallest of all channels: [N, C, H, W] to [N, 1, H, W], the same in XNNPACK and the plain kernels."""

    keeps_grid = True
    selects = True
    needs_channels = True
    tflite = ("REDUCE_MIN",)

    @classmethod
    def channels(cls, node, inputs):
        return 1

    def forward(self, x):
        return x.amin(1, keepdim=True)

    def simulate(self, inputs, grids, grid):
        return self(inputs[0])
