"""Predicts where each operator of an int8 file runs: the rules, and what follows from one subgraph on the Edge TPU."""

from dataclasses import dataclass
from pathlib import Path

from edge.errors import UserError
from stages.compile.edgetpu.graph import Op, read
from stages.compile.edgetpu.rules import DOCUMENTED, EIGHT_BIT, WEIGHTED, Reason, why_not


@dataclass(frozen=True)
class Placement:
    """One operator and why it stays on the CPU; mapped where there is no reason."""

    op: Op
    reason: Reason | None

    @property
    def mapped(self) -> bool:
        return self.reason is None


def predict(path: Path) -> list[Placement]:
    """The placement of every operator of a source .tflite file; UserError for a file that is compiled already."""
    return place(read_source(path), path)


def read_source(path: Path) -> list[Op]:
    """The operators of a file that is not compiled yet, else UserError."""
    ops = read(path)
    if any(op.kind == "edgetpu-custom-op" for op in ops):
        raise UserError(f"{path}: already compiled for the Edge TPU; give the .tflite file that it was made from")
    return ops


def place(ops: list[Op], path: Path) -> list[Placement]:
    """The placement of operators in their order; path: the file to name in an error.

    The compiler maps one subgraph (documented): it begins with the first operator that can be mapped and holds no
    operator that needs the result of one that it left on the CPU. Operators on the CPU in front of it are no obstacle
    (observed: movenet's cast and quantize).
    """
    placed: list[Placement] = []
    after: list[bool] = []  # whether an operator needs anything that the Edge TPU computes
    for op in ops:
        try:
            reason = why_not(op)
        except (AttributeError, IndexError, TypeError, ValueError, ZeroDivisionError):
            raise UserError(f"{path}: operator {op.index} ({op.kind}) has impossible inputs; get it again") from None
        stop = next((s for s in op.sources if not placed[s].mapped and after[s]), None)
        if reason is None and stop is not None:
            text = f"needs {placed[stop].op.kind} (operator {stop}), which is on the CPU; only one subgraph is mapped"
            reason = Reason(text, DOCUMENTED)
        placed.append(Placement(op, reason))
        after.append(any(placed[s].mapped or after[s] for s in op.sources))
    return placed


def parameter_bytes(placed: list[Placement]) -> int:
    """Bytes of weights and biases of the mapped operators, as they are in the source file (the compiler pads them)."""
    found = {}
    for op in (p.op for p in placed if p.mapped):
        for tensor in op.inputs:
            if tensor is not None and tensor.data is not None and (tensor.dtype in EIGHT_BIT or op.kind in WEIGHTED):
                found[id(tensor)] = len(tensor.data)
    return sum(found.values())
