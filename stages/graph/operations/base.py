"""What every kind of node says of itself; the defaults are those of a function of single values."""

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
    """A node that computes: [N, C, H, W] of its inputs to [N, C', H', W'].

    What a network needs before its weights exist is a class method: channels, size and cost follow from the node.
    """

    kind: ClassVar[str]
    arity: ClassVar[int | None] = 1  # inputs; None: two or more

    # quantization: an operation has a grid of its own, which training learns, unless one of these says otherwise
    keeps_grid: ClassVar[bool] = False  # writes on the grid of its input
    fixed_range: ClassVar[tuple[float, float] | None] = None  # writes on the grid that its kernel asks for
    joins_grids: ClassVar[bool] = False  # what only it reads is written on its grid
    selects: ClassVar[bool] = False  # gives values of its input unchanged: a grid for those is enough

    # pruning and narrowing
    needs_channels: ClassVar[bool] = False  # works across the channels of its input: pruning keeps those
    sums: ClassVar[bool] = False  # adds its first input, a branch, to a stream that goes on: narrowing knows that

    # TFLite
    tflite: ClassVar[tuple[str, ...]] = ()  # the operators that it becomes
    helpers: ClassVar[tuple[str, ...]] = ()  # operators beside them whose result is no node and keeps its grid
    cancels: ClassVar[bool] = False  # what it gives may be small with rounding errors as large as its inputs have

    def __init_subclass__(cls, kind: str | None = None, **rest):
        super().__init_subclass__(**rest)
        if kind:
            cls.kind, KINDS[kind] = kind, cls

    def __init__(self, node: Node, channels: Sequence[int]):
        """channels: those of its inputs."""
        super().__init__()
        self.node = node

    @classmethod
    def check(cls, node: Node, inputs: Sequence[Node | None]) -> None:
        """UserError for a node that can't be one; inputs: the nodes that it takes, None for the network's input."""
        if len(inputs) != cls.arity and (cls.arity or len(inputs) < 2):
            wanted = cls.arity or "2 or more"
            raise UserError(f"layer {node.name}: {node.kind} takes {wanted} inputs, not {len(inputs)}")

    @classmethod
    def channels(cls, node: Node, inputs: Sequence[int]) -> int:
        """Output channels for the channels of its inputs."""
        if len(set(inputs)) > 1:
            raise UserError(f"layer {node.name}: {node.kind} of {' and '.join(map(str, inputs))} channels")
        return inputs[0]

    @classmethod
    def size(cls, node: Node, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output for those of its inputs, which are equal."""
        return height, width

    @classmethod
    def cost(cls, node: Node, inputs: Sequence[int], height: int, width: int) -> tuple[int, int]:
        """Parameters, and multiply-accumulates for one picture, of the folded node; inputs: channels; output size."""
        return 0, 0

    @abstractmethod
    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """In float: training without fake quantization, and the export."""

    @property
    def layer(self) -> nn.Conv2d | None:
        """The layer with its weights, whose output channels can be pruned and narrowed."""
        return None

    @property
    def limit(self) -> tuple[float, float] | None:
        """No observed range goes beyond it."""
        return None

    def folded(self) -> dict[str, torch.Tensor]:
        """The state of the same operation without batch norm."""
        return self.state_dict()

    def reinsert(self, *inputs: torch.Tensor) -> None:
        """Gives a fresh batch norm the statistics of what the inputs become, and the affine part that undoes them."""

    def quantized(self, inputs: list[torch.Tensor], grids: list[FakeQuant]) -> torch.Tensor:
        """What it gives for inputs that lie on int8 grids, in float: on the grid where it keeps that, else before."""
        return self(*inputs)

    @abstractmethod
    def simulate(self, inputs: list[torch.Tensor], grids: list[Scheme], grid: Scheme) -> torch.Tensor:
        """The integers that the runtime's kernel gives; integers in float64 to the same, clamped to int8 later."""
