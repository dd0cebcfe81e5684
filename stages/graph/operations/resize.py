"""Bilinear resizing to any size."""

import torch
import torch.nn.functional as F

from edge.errors import UserError
from stages.graph.grids import Round
from stages.graph.operations.base import Operation

BINARY_PLACES = 11  # of XNNPACK's weights


class Resize(Operation, kind="resize"):
    """Bilinear with half-pixel centres to options["size"] (height, width); `up` is the one by 2.

    XNNPACK's weights have 11 binary places, and it rounds once, half up.
    """

    keeps_grid = True
    cancels = True
    tflite = ("RESIZE_BILINEAR",)

    @classmethod
    def check(cls, node, inputs):
        super().check(node, inputs)
        size = node.options.get("size")
        if not (isinstance(size, tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
            raise UserError(f"layer {node.name}: resize needs options size: (height, width), not {size}")

    @classmethod
    def size(cls, node, height, width):
        return node.options["size"]

    def forward(self, x):
        return F.interpolate(x, size=self.node.options["size"], mode="bilinear", align_corners=False)

    def quantized(self, inputs, grids):
        """On the integers, rounded half up as the kernels do (a grid rounds half to even)."""
        scale, zero = grids[0].scale_zero
        steps = self(Round.apply(inputs[0] / scale))
        with torch.no_grad():
            wanted = self.simulate([torch.round(inputs[0] / scale).double() + zero], [], grids[0].scale_zero) - zero
        return (steps + (wanted.to(steps) - steps).detach()) * scale

    def simulate(self, inputs, grids, grid):
        """First across, then down, in integers."""
        (x,), (height, width) = inputs, self.node.options["size"]
        for axis, size in ((3, width), (2, height)):
            before, after, share = taps(x.shape[axis], size)
            share = share.double().view(-1, *[1] * (3 - axis))
            low, high = x.index_select(axis, before), x.index_select(axis, after)
            x = low * 2**BINARY_PLACES + (high - low) * share
        return torch.floor(x / 2 ** (2 * BINARY_PLACES) + 0.5)


def taps(size: int, wanted: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each of the `wanted` positions: the input positions before and after it, and the weight of the latter in steps
    of 2^-11, computed in float32 as XNNPACK does."""
    scale = torch.tensor(size, dtype=torch.float32) / wanted
    at = ((torch.arange(wanted, dtype=torch.float32) + 0.5) * scale - 0.5).clamp(0, size - 1)
    before = at.floor()
    share = torch.round((at - before) * 2**BINARY_PLACES)
    return before.long(), (before.long() + 1).clamp(max=size - 1), share
