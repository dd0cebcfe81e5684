"""What every operation defines for shapes, pruning, quantization and export; the defaults suit elementwise ones."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from edge.errors import UserError
from stages.graph.grids import FakeQuant
from stages.graph.node import Node

KINDS: dict[str, type["Operation"]] = {}  # filled by the subclasses

Scheme = tuple[float, int]  # scale and zero point of an int8 grid


class Operation(nn.Module, ABC):
    """The module of a node: its inputs [N, C, H, W] to [N, C', H', W'].

    Channels, size and cost follow from the node alone and are class methods, for a network needs them before weights
    exist.
    """

    kind: ClassVar[str]
    arity: ClassVar[int | None] = 1  # inputs; None: two or more

    # quantization: the output has a grid of its own (its range is learned or calibrated) unless one of these is set
    keeps_grid: ClassVar[bool] = False  # its output is on the grid of its input
    fixed_range: ClassVar[tuple[float, float] | None] = None  # its output is on this grid, as the kernel demands
    joins_grids: ClassVar[bool] = False  # inputs that no other node takes are on the grid of its output
    selects: ClassVar[bool] = (
        False  # returns some values of its input unchanged: the input's range needs to hold only those
    )

    # pruning and narrowing
    needs_channels: ClassVar[bool] = False  # works across channels: those of its input are not pruned
    sums: ClassVar[bool] = (
        False  # a residual sum: adds its first input, the branch, to the second, the residual stream (narrow.py)
    )

    # TFLite
    tflite: ClassVar[tuple[str, ...]] = ()  # the operators that it becomes
    helpers: ClassVar[
        tuple[str, ...]
    ] = ()  # operators that the converter adds, whose result is no node and keeps its grid
    cancels: ClassVar[bool] = (
        False  # terms cancel: its output may be small, with rounding errors as large as those of its inputs
    )

    def __init_subclass__(cls, kind: str | None = None, **rest):
        super().__init_subclass__(**rest)
        if kind:
            cls.kind, KINDS[kind] = kind, cls

    def __init__(self, node: Node, channels: Sequence[int]):
        """channels: of each input."""
        super().__init__()
        self.node = node

    @classmethod
    def check(cls, node: Node, inputs: Sequence[Node | None]) -> None:
        """UserError for a node that can't be built; inputs: the nodes that it takes, None for the network's input."""
        if len(inputs) != cls.arity and (cls.arity or len(inputs) < 2):
            wanted = cls.arity or "2 or more"
            raise UserError(f"layer {node.name}: {node.kind} takes {wanted} inputs, not {len(inputs)}")

    @classmethod
    def channels(cls, node: Node, inputs: Sequence[int]) -> int:
        """Channels of the output, from those of each input."""
        if len(set(inputs)) > 1:
            raise UserError(f"layer {node.name}: {node.kind} of {' and '.join(map(str, inputs))} channels")
        return inputs[0]

    @classmethod
    def size(cls, node: Node, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output, from those of the inputs, which are equal."""
        return height, width

    @classmethod
    def cost(cls, node: Node, inputs: Sequence[int], height: int, width: int) -> tuple[int, int]:
        """Parameters, and multiply-accumulates for one picture, with folded batch norm.

        inputs: channels of each. height, width: of the output.
        """
        return 0, 0

    @abstractmethod
    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """In float: for training without fake quantization, and for the export."""

    @property
    def layer(self) -> nn.Conv2d | None:
        """The convolution whose output channels can be pruned and narrowed; None for an operation without weights."""
        return None

    @property
    def limit(self) -> tuple[float, float] | None:
        """Bounds of the output's range, None where there are none."""
        return None

    def folded(self) -> dict[str, torch.Tensor]:
        """The state dict of the same operation with batch norm folded."""
        return self.state_dict()

    def reinsert(self, *inputs: torch.Tensor) -> None:
        """Gives a fresh batch norm the statistics of these inputs, and the weight and bias that undo them."""

    def quantized(self, inputs: list[torch.Tensor], grids: list[FakeQuant]) -> torch.Tensor:
        """With fake quantization: the output in float for inputs on int8 grids. It is rounded to its own grid after
        that, unless it keeps the grid of its input."""
        return self(*inputs)

    @abstractmethod
    def simulate(self, inputs: list[torch.Tensor], grids: list[Scheme], grid: Scheme) -> torch.Tensor:
        """What XNNPACK's int8 kernel computes, requantization included: integers in float64 to integers in float64,
        which the caller clamps to int8."""
