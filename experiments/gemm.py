"""A dense int8 matrix product as a TFLite file: what a core can do at best in the runtime that runs the models."""

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from experiments.truncated import write

# positions to a side, input and output channels of 1 x 1 convolutions; the fastest counts
SHAPES = ((32, 512, 512), (16, 1024, 1024), (16, 512, 2048))


def macs(shape: tuple[int, int, int]) -> int:
    side, inputs, outputs = shape
    return side * side * inputs * outputs


def product(shape: tuple[int, int, int], path: Path) -> Path:
    """Writes a 1 x 1 convolution [1, side, side, inputs] to [1, side, side, outputs] with random weights."""
    side, inputs, outputs = shape
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    random, kinds = np.random.default_rng(0), schema.TensorType

    def tensor(name: str, kind: int, shape: list[int], scales: list[float], data: np.ndarray | None = None) -> int:
        made = schema.TensorT()
        made.name, made.type, made.shape = name.encode(), kind, shape
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = scales, [0] * len(scales)
        if data is not None:
            held = schema.BufferT()
            held.data = np.frombuffer(data.tobytes(), np.uint8)
            model.buffers.append(held)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    graph.tensors = []
    weights = random.integers(-127, 128, (outputs, 1, 1, inputs), dtype=np.int8)
    graph.inputs = [tensor("input", kinds.INT8, [1, side, side, inputs], [0.02])]
    constants = [
        tensor("weights", kinds.INT8, list(weights.shape), [0.01] * outputs, weights),
        tensor("bias", kinds.INT32, [outputs], [0.0002] * outputs, np.zeros(outputs, np.int32)),
    ]
    graph.outputs = [tensor("output", kinds.INT8, [1, side, side, outputs], [0.5])]
    code, op, options = schema.OperatorCodeT(), schema.OperatorT(), schema.Conv2DOptionsT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 3
    options.padding = schema.Padding.VALID
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    op.inputs, op.outputs = [*graph.inputs, *constants], graph.outputs
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.Conv2DOptions, options
    model.operatorCodes, graph.operators = [code], [op]
    return write(model, path)
