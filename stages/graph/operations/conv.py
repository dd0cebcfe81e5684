"""Convolution, full or depthwise, with batch norm and relu6 or relu."""

import torch
import torch.nn.functional as F
from torch import nn

from edge.errors import UserError
from stages.graph.grids import FakeQuant, Round, fake_quant_weight
from stages.graph.operations.base import Operation

ACTIVATIONS = {  # Node.act: highest value (None: there is none)
    "relu6": 6.0,
    "relu": None,
}


class Conv(Operation, kind="conv"):
    """Convolution (Node: channels, kernel, stride, padding, depthwise), batch norm where `norm`, then `act`.

    TFLite's plain kernels requantize in fixed point and differ from XNNPACK by one step in about 0.05 % of the outputs.
    The eps of batch norm is MobileNetV2's; its momentum is a choice (statistics over about 20 batches).
    """

    tflite = ("CONV_2D", "DEPTHWISE_CONV_2D")
    helpers = ("PAD",)  # explicit zero padding

    def __init__(self, node, channels):
        super().__init__(node, channels)
        (inputs,) = channels
        groups = inputs if node.depthwise else 1
        self.conv = nn.Conv2d(
            inputs, node.channels, node.kernel, node.stride, groups=groups, bias=not node.norm, padding=0
        )
        self.norm = nn.BatchNorm2d(node.channels, eps=1e-3, momentum=0.05) if node.norm else nn.Identity()
        self.act = "relu6" if node.act is True else node.act

    @classmethod
    def check(cls, node, inputs):
        super().check(node, inputs)
        if node.act not in (True, False, *ACTIVATIONS):
            raise UserError(f"layer {node.name}: no activation {node.act}; use {', '.join(ACTIVATIONS)} or false")

    @classmethod
    def channels(cls, node, inputs):
        if node.depthwise and node.channels % inputs[0]:
            raise UserError(f"layer {node.name}: depthwise, but {node.channels} is no multiple of {inputs[0]} channels")
        return node.channels

    @classmethod
    def size(cls, node, height, width):
        return node.window(height, width)

    @classmethod
    def cost(cls, node, inputs, height, width):
        weights = node.kernel**2 * (1 if node.depthwise else inputs[0]) * node.channels
        return weights + node.channels, weights * height * width

    @property
    def layer(self):
        return self.conv

    @property
    def limit(self):
        return (0.0, 6.0) if self.act == "relu6" else None

    def padded(self, x: torch.Tensor) -> torch.Tensor:
        top, bottom, left, right = self.node.pads(int(x.shape[-2]), int(x.shape[-1]))  # int: constants in the export
        return F.pad(x, (left, right, top, bottom)) if top or bottom or left or right else x

    def activated(self, x: torch.Tensor) -> torch.Tensor:
        if not self.act:
            return x
        highest = ACTIVATIONS[self.act]
        return F.relu(x) if highest is None else F.hardtanh(x, 0.0, highest)

    def forward(self, x):
        return self.activated(self.linear(x))

    def linear(self, x: torch.Tensor) -> torch.Tensor:
        """The output before the activation function."""
        return self.norm(self.conv(self.padded(x)))

    def folded(self):
        if not isinstance(self.norm, nn.BatchNorm2d):
            return super().folded()
        gain = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
        weight = (self.conv.weight * gain.view(-1, 1, 1, 1)).detach()
        return {"conv.weight": weight, "conv.bias": (self.norm.bias - self.norm.running_mean * gain).detach()}

    def reinsert(self, x):
        if not isinstance(self.norm, nn.BatchNorm2d):
            return
        raw = self.conv(self.padded(x))
        mean, var = raw.mean(dim=(0, 2, 3)), raw.var(dim=(0, 2, 3), unbiased=False)
        self.norm.running_mean.copy_(mean)
        self.norm.running_var.copy_(var)
        self.norm.weight.copy_((var + self.norm.eps).sqrt())
        self.norm.bias.add_(mean)

    def quantized(self, inputs, grids):
        return self.activated(self.linear_quantized(inputs, grids))

    def linear_quantized(self, inputs: list[torch.Tensor], grids: list[FakeQuant]) -> torch.Tensor:
        """`linear` with weights on their int8 grids and biases on the int32 grid of scale s_input * s_weight."""
        weight, scale = fake_quant_weight(self.conv.weight)
        step = scale * grids[0].scale_zero[0]
        bias = Round.apply(self.conv.bias / step) * step
        return F.conv2d(self.padded(inputs[0]), weight, bias, self.conv.stride, 0, 1, self.conv.groups)

    def simulate(self, inputs, grids, grid):
        """An exact int32 sum; requantization by a float32 factor, rounded half to even."""
        scale, zero = grid
        _, weight_scale = fake_quant_weight(self.conv.weight)
        in_scale = torch.tensor(grids[0][0], dtype=torch.float32)
        factor = in_scale * weight_scale / torch.tensor(scale, dtype=torch.float32)
        weight = torch.round(self.conv.weight / weight_scale.view(-1, 1, 1, 1)).clamp(-127, 127).double()
        bias = torch.round(self.conv.bias / (in_scale * weight_scale)).double()
        x = self.padded(inputs[0] - grids[0][1])
        total = F.conv2d(x, weight, bias, self.conv.stride, 0, 1, self.conv.groups)
        x = torch.round(total.float() * factor.view(-1, 1, 1)).double() + zero
        if not self.act:
            return x
        highest = ACTIVATIONS[self.act]
        return x.clamp(zero, 127 if highest is None else min(127, round(highest / scale) + zero))
