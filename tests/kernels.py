"""Runs a .tflite file on the kernels that a test names."""

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

PLAIN = ("BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF")  # TFLite's own kernels, the optimized and the plain ones


def invoke(path: Path, inputs: list[np.ndarray], kernels: str = "AUTO") -> tuple[np.ndarray, bool]:
    """The output of a file, and whether XNNPACK computes something of it."""
    resolver = getattr(OpResolverType, kernels)
    interpreter = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    for entry, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(entry["index"], value)
    interpreter.invoke()
    delegated = any(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), delegated
