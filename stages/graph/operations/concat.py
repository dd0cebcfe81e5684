"""Channels of several tensors side by side."""

import numpy as np
import torch

from edge.errors import UserError
from stages.graph.operations.base import Operation


class Concat(Operation, kind="concat"):
    """The channels of its inputs, in their order.

    TFLite demands one grid for all of them. An input that no other node takes is computed on that grid; one with other
    readers, or with a fixed grid, is requantized by a QUANTIZE operator in the file, where TFLite's plain kernels
    differ from XNNPACK by one step in 10 % of the outputs. The simulation is exact only where XNNPACK runs it: where no
    input has a scale below 1/256 of the joined one.
    """

    arity = None
    joins_grids = True
    tflite = ("CONCATENATION",)

    @classmethod
    def check(cls, node, inputs):
        super().check(node, inputs)
        nested = [other.name for other in inputs if other and other.kind == cls.kind]
        if nested:
            raise UserError(
                f"layer {node.name}: takes the concat {nested[0]}, which the converter would dissolve; list its inputs"
            )

    @classmethod
    def channels(cls, node, inputs):
        return sum(inputs)

    def forward(self, *inputs):
        return torch.cat(inputs, 1)

    def simulate(self, inputs, grids, grid):
        return torch.cat([requantize(x, own, grid) for x, own in zip(inputs, grids, strict=True)], 1)


def requantize(x: torch.Tensor, source: tuple[float, int], target: tuple[float, int]) -> torch.Tensor:
    """Requantization from one grid to another as XNNPACK does it: a factor of 8 binary places, rounded half up."""
    if source == target:
        return x
    factor = int(np.rint(np.float32(256) * (np.float32(source[0]) / np.float32(target[0]))))
    return (torch.floor(((x - source[1]) * factor + 128) / 256) + target[1]).clamp(-128, 127)
