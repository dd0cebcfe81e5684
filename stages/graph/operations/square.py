"""Square of a tensor."""

from stages.graph.operations.base import Operation
from stages.graph.operations.mul import product


class Square(Operation, kind="square"):
    """x * x, in a file the product (MUL) of a tensor with itself."""

    tflite = ("MUL",)

    def forward(self, x):
        return x * x

    def simulate(self, inputs, grids, grid):
        return product(inputs * 2, grids * 2, grid)
