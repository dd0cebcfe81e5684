"""Difference of two tensors."""

from stages.graph.operations.add import Add


class Sub(Add, kind="sub"):
    """a - b, of equal shapes; XNNPACK adds with the factor of b negated. Plain kernels differ as in add."""

    sums = False
    tflite = ("SUB",)
    signs = (1, -1)

    def forward(self, a, b):
        return a - b
