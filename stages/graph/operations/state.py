"""What a network remembers of the sample before: an input of its own that the next inference gets from an output."""

from edge.errors import UserError
from stages.graph.operations.base import Operation


class State(Operation, kind="state"):
    """The value that the node options["next"] had at the sample before, zero at first (Node: channels, stride from the
    network's input, which gives its size).

    In a file it is an input, and its next node is an output. Both are on the grid of the next node, so that what comes
    out goes in again as it is.
    """

    @classmethod
    def check(cls, node, inputs):
        super().check(node, inputs)
        if inputs != [None] or not isinstance(node.options.get("next"), str):
            raise UserError(f"layer {node.name}: a state takes the network's input and needs options next: a layer")

    @classmethod
    def channels(cls, node, inputs):
        return node.channels

    @classmethod
    def size(cls, node, height, width):
        return -(-height // node.stride), -(-width // node.stride)

    def forward(self, x):
        """Zero; whoever runs the network gives it another value (Network.continued)."""
        return x.new_zeros(len(x), self.node.channels, *self.size(self.node, int(x.shape[-2]), int(x.shape[-1])))

    def simulate(self, inputs, grids, grid):
        return self(inputs[0]) + grid[1]
