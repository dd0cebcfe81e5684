"""Prints where the operators of a .tflite file run on an Edge TPU: predicted of a source, read of a compiled file."""

import sys
from pathlib import Path

from edge.errors import UserError
from stages.common.stage import fail
from stages.compile.edgetpu.graph import read
from stages.compile.edgetpu.mapping import Placement, parameter_bytes, place
from stages.compile.edgetpu.package import is_compiled, read_compiled

VERB = "edgetpu"


def describe(path: Path) -> list[str]:
    """The lines to print."""
    ops = read(path)
    return compiled(path) if is_compiled(ops) else predicted(place(ops, path))


def predicted(placed: list[Placement]) -> list[str]:
    width = max(len(p.op.kind) for p in placed)
    lines = []
    for p in placed:
        why = f"CPU     {p.reason.text} ({p.reason.source})" if p.reason else "mapped"
        lines.append(f"{p.op.index:4}  {p.op.kind:{width}}  {why}")
    mapped = sum(p.mapped for p in placed)
    return [
        *lines,
        f"predicted: {mapped} of {len(placed)} operators mapped, {len(placed) - mapped} on the CPU; "
        f"{parameter_bytes(placed)} parameter bytes mapped (in this file; not a compile result)",
    ]


def compiled(path: Path) -> list[str]:
    found = read_compiled(path)
    lines = [f"{op.index:4}  {op.kind}  CPU" for op in found.cpu]
    for p in found.packages:
        lines.append(
            f"      Edge TPU subgraph: {p.on_chip_bytes} parameter bytes on chip, {p.streamed_bytes} streamed; "
            f"runtime version {p.min_runtime_version} or later; compiler {p.compiler or 'not named'}"
        )
    return [*lines, f"compiled: {len(found.packages)} Edge TPU subgraphs, {len(found.cpu)} operators on the CPU"]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        fail(VERB, "give one file, e.g. python -m stages.compile.edgetpu artifacts/models/student-int8/model.tflite", 2)
    try:
        print("\n".join(describe(Path(sys.argv[1]))))
    except UserError as error:
        fail(VERB, str(error))
