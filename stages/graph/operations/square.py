"""Square of a tensor."""

from stages.graph.operations.mul import Mul


class Square(Mul, kind="square"):
    """x * x: a product of a tensor with itself."""

    arity = 1

    def forward(self, x):
        return x * x

    def simulate(self, inputs, grids, grid):
        return super().simulate(inputs * 2, grids * 2, grid)
