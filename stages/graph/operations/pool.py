"""Average pooling."""

import torch
import torch.nn.functional as F

from edge.errors import UserError
from stages.graph.grids import Round
from stages.graph.node import Node
from stages.graph.operations.base import Operation


class Pool(Operation, kind="pool"):
    """Mean of a window (Node: kernel, stride, padding "same" or "valid"); padding doesn't count in it.

    XNNPACK has no int8 average pooling: TFLite's plain kernel runs it, between the subgraphs of XNNPACK.
    """

    keeps_grid = True
    tflite = ("AVERAGE_POOL_2D",)

    @classmethod
    def check(cls, node, inputs):
        super().check(node, inputs)
        if node.padding not in ("same", "valid"):
            raise UserError(f"layer {node.name}: pool has no padding {node.padding}; use same or valid")

    @classmethod
    def size(cls, node, height, width):
        return node.window(height, width)

    def forward(self, x):
        exported = torch.onnx.is_in_onnx_export() and self.node.padding == "same"
        return _Same.apply(x, self.node) if exported else _mean(x, self.node)

    def quantized(self, inputs, grids):
        """On the integers, halves rounded away from zero."""
        scale, zero = grids[0].scale_zero
        steps = self(Round.apply(inputs[0] / scale)) + zero
        return (steps + (_half_away(steps) - steps).detach() - zero) * scale

    def simulate(self, inputs, grids, grid):
        return _half_away(self(inputs[0]))


def _mean(x: torch.Tensor, node: Node) -> torch.Tensor:
    top, bottom, left, right = node.pads(int(x.shape[-2]), int(x.shape[-1]))
    total, count = (
        F.avg_pool2d(F.pad(part, (left, right, top, bottom)), node.kernel, node.stride, divisor_override=1)
        for part in (x, torch.ones_like(x[:1, :1]))
    )
    return total / count


def _half_away(x: torch.Tensor) -> torch.Tensor:
    return x.sign() * torch.floor(x.abs() + 0.5)


class _Same(torch.autograd.Function):
    """Mean with TensorFlow's SAME padding, for which torch writes several operators into a file."""

    @staticmethod
    def symbolic(g, x, node):
        window = {"kernel_shape_i": [node.kernel] * 2, "strides_i": [node.stride] * 2}
        return g.op("AveragePool", x, **window, auto_pad_s="SAME_UPPER", count_include_pad_i=0)

    @staticmethod
    def forward(ctx, x, node):
        return _mean(x, node)
