"""`python -m experiments profile VARIANT`: where the milliseconds of an int8 TFLite file go, operator by operator.

The file is cut after each operator (experiments/truncated.py). All pieces run in turns on one core, together with the
whole file and with dense int8 matrix products (experiments/gemm.py), the fastest of which is the core's peak. The time
of an operator is the median difference between the pieces that end with it and before it. `chrt -r 1` before the
command keeps other work away.
"""

import tempfile
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np

from edge.errors import UserError
from edge.inference.modelfile import open_model
from edge.inference.modelinfo import ModelInfo
from edge.inference.runtimes import FORMATS
from edge.processor import int8_instructions
from experiments import gemm, interleave, layers, provenance, truncated
from hardware_runners.runner.remote import machine
from stages.common import atomic
from stages.compile.edgetpu.graph import Op, read
from stages.report.formatting import markdown_list

MODELS, OUT = Path("artifacts/models"), Path("reports/profile.json")
LEAST_ROUNDS = 3  # the fewest that have a median
# multiply-accumulates for each value of the output, from the shape of the weights
WEIGHTED = {
    "CONV_2D": lambda shape: prod(shape[1:]),  # [outputs, height, width, inputs]
    "DEPTHWISE_CONV_2D": lambda shape: prod(shape[1:3]),  # [1, height, width, outputs]
    "FULLY_CONNECTED": lambda shape: prod(shape[1:]),  # [outputs, inputs]
}


def macs(op: Op) -> int:
    """Multiply-accumulates of an operator, as the node list counts them: those with weights."""
    each = WEIGHTED.get(op.kind)
    return op.outputs[0].size * each(op.required(1).shape) if each else 0


def kind(op: Op) -> str:
    """The operator with the size of its window, e.g. "CONV_2D 3 x 3 / 2"."""
    if op.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return op.kind
    _, height, width, _ = op.required(1).shape
    stride = getattr(op.options, "strideH", 1)
    return f"{op.kind} {height} x {width}" + (f" / {stride}" if stride > 1 else "")


def shape(op: Op) -> str:
    """Its first input and its output, e.g. "64 x 64 x 24 to 64 x 64 x 144"."""
    sides = (op.required(0).shape, op.outputs[0].shape)
    return " to ".join(" x ".join(map(str, side[1:] if side[:1] == (1,) else side)) for side in sides)


def opened(path: Path, digest: str) -> Callable[[], object]:
    """A function that runs the file once on random input, without reading its outputs."""
    runtime = FORMATS["tflite"].open(path, 1, digest)
    random = np.random.default_rng(0)
    feeds = []
    for tensor in runtime.inputs:
        sides = [side for side in tensor.shape if isinstance(side, int)]  # all of them: TFLite shapes are fixed
        feeds.append(random.integers(-128, 128, sides).astype(tensor.dtype))
    return lambda: runtime.invoke(feeds, [])


def measure(info: ModelInfo, rounds: int, folder: Path) -> dict:
    """A row for each operator of the file, the time of the whole file in ms and the peak in GMAC/s."""
    ops, pieces = read(info.path), truncated.cut(info.path, folder)
    products = [gemm.product(shape, folder / f"product{i}.tflite") for i, shape in enumerate(gemm.SHAPES)]
    runs = [opened(path, info.sha256) for path in (*pieces, info.path, *products)]
    found = interleave.timed(runs, rounds, warm=1)
    times, whole, dense = np.split(found, [len(pieces), len(pieces) + 1], axis=1)
    differences = np.diff(times, axis=1)
    milliseconds = np.median(differences, axis=0).tolist()
    low, high = np.percentile(differences, [25, 75], axis=0)
    peak = max(gemm.macs(shape) / ms / 1e6 for shape, ms in zip(gemm.SHAPES, np.median(dense, axis=0), strict=True))
    return {
        "variant": info.name,
        "sha256": info.sha256,
        "rounds": rounds,
        "threads": 1,
        "rows": [
            {"operator": kind(op), "shape": shape(op), "macs": macs(op), "ms": ms}
            for op, ms in zip(ops, milliseconds, strict=True)
        ],
        "call_ms": float(np.median(times[:, 0])),  # the file without operators
        "whole_ms": float(np.median(whole)),
        # of a median, for values in a normal distribution, whose quartiles are 1.35 standard deviations apart
        "standard_error_ms": float(np.median(high - low) / 1.35 * 1.25 / rounds**0.5),
        "peak_gmacs": float(peak),
        "machine": {"cpu": machine.cpu_model(), "int8": int8_instructions()},
        "runtime": FORMATS["tflite"].open(info.path, 1, info.sha256).details,
    }


def checked(variant: str) -> ModelInfo:
    """The description of an int8 TFLite file; UserError for any other."""
    info = open_model(MODELS / variant)
    if info.format != "tflite" or info.input.dtype != "int8":
        raise UserError(f"{variant}: is no int8 TFLite file; only those can be profiled")
    return info


def add_arguments(parser) -> None:
    parser.add_argument("variant", metavar="VARIANT", help="an exported int8 TFLite file, e.g. student-int8")
    parser.add_argument("--rounds", type=int, default=100, metavar="N", help="how often each piece runs (100)")
    parser.add_argument("--output", type=Path, default=OUT, metavar="FILE", help=f"where the result stays ({OUT})")


def run(arguments) -> None:
    """Writes the result with the code that was measured, and prints its tables."""
    interleave.check_rounds(arguments.rounds, LEAST_ROUNDS)
    info = checked(arguments.variant)
    interleave.one_core()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(info, arguments.rounds, Path(folder)) | {"code": provenance.current()}
    atomic.write_json(arguments.output, found)
    print(f"{layers.tables(found)}\n\n{markdown_list(layers.notes(found))}")
