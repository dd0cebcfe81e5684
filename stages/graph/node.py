"""A node of a network, with padding and output size of its window (the kernel of a convolution or pooling)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from edge.errors import UserError

Padding = Literal["same", "valid"] | tuple[int, int, int, int]


@dataclass(frozen=True)
class Node:
    """One operation; `kind` names its class in stages/graph/operations, which says what it uses of the rest.

    inputs: names of the nodes that it takes, or "input". padding: "same" (TensorFlow's SAME: the output has
    ceil(size / stride), an odd pixel of padding goes to the end), "valid" (none), or zeros in pixels (top, bottom,
    left, right). norm: batch norm. act: True or "relu6", "relu", False. options: settings of one kind alone; JSON
    values, tuples for lists.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    norm: bool = True
    act: bool | str = True
    padding: Padding = "same"
    options: Mapping = field(default_factory=dict, hash=False)

    def pads(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Zeros around an input of this size: top, bottom, left, right."""
        if self.padding == "valid":
            return 0, 0, 0, 0
        if self.padding != "same":
            return self.padding
        down, across = (
            max(0, (-(-size // self.stride) - 1) * self.stride + self.kernel - size) for size in (height, width)
        )
        return down // 2, down - down // 2, across // 2, across - across // 2

    def window(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output for an input of this size; UserError where the window is larger."""
        top, bottom, left, right = self.pads(height, width)
        padded = height + top + bottom, width + left + right
        if min(padded) < self.kernel:
            raise UserError(
                f"layer {self.name}: a window of {self.kernel} x {self.kernel} does not fit into {height} x {width}"
            )
        return (padded[0] - self.kernel) // self.stride + 1, (padded[1] - self.kernel) // self.stride + 1

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict) -> "Node":
        return cls(**{key: _tuples(value) for key, value in fields.items()})


def _tuples(value):
    """A JSON value with tuples for lists."""
    if isinstance(value, dict):
        return {key: _tuples(part) for key, part in value.items()}
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
