"""The operations that a network is made of, one module for each kind of node.

A new one is a module with `class Negate(Operation, kind="negate")` and in it `forward` (float tensors [N, C, H, W]),
`simulate` (what XNNPACK computes on the integers of an int8 file, requantization included) and `tflite` (the operators
it becomes). It overrides the defaults of base.py (one input, same shape, no weights, an int8 grid of its own) where it
differs. No other file changes; tests/test_operations.py asks for a network with it and proves `simulate` to the bit
on XNNPACK.
"""

import importlib
import pkgutil

from stages.graph.operations.base import KINDS, Operation

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["KINDS", "Operation"]
