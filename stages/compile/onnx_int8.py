"""Float ONNX to int8 ONNX in QDQ form (QuantizeLinear, DequantizeLinear), on the same grids as the int8 TFLite file."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx

from edge.errors import UserError
from stages.graph.quantize import QuantNetwork


class _Blank:
    """The calibration data that onnxruntime demands: one blank picture, since every range is given."""

    def __init__(self, entries: Iterable[onnx.ValueInfoProto]):
        shapes = {entry.name: [d.dim_value for d in entry.type.tensor_type.shape.dim] for entry in entries}
        self.pictures = iter([{name: np.zeros(shape, np.float32) for name, shape in shapes.items()}])

    def get_next(self):
        return next(self.pictures, None)


def tensor_nodes(graph: onnx.ModelProto, model: QuantNetwork) -> dict[str, str]:
    """The node of the network that writes each tensor of the exported graph; UserError where a node has none."""
    names = {node.name for node in model.network.nodes}
    found = {"image": "input"} | {name: name for name in model.network.states}
    for op in graph.graph.node:
        for tensor in op.output:
            name = tensor.split("/")[1] if tensor.startswith("/") else tensor
            if name in names:
                found[tensor] = name
    missing = names - set(found.values())
    if missing:
        raise UserError(f"the exported ONNX graph has no tensor of the nodes {sorted(missing)}")
    return found


# what TensorRT takes: zero points of 0, Q/DQ pairs on weights as on activations, each layer its own, float biases
SYMMETRIC = {"ActivationSymmetric": True, "AddQDQPairToWeight": True, "DedicatedQDQPair": True, "QuantizeBias": False}


def quantize(float_path: Path, path: Path, model: QuantNetwork, symmetric: bool = False) -> None:
    """Writes the QDQ file: weights int8 per channel, activations uint8 (faster than int8 on x86, the same steps); with
    `symmetric` int8 around zero that reaches as far as the grid does, in steps up to twice as large."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    graph = onnx.load(float_path)
    grids = {}
    for tensor, node in tensor_nodes(graph, model).items():
        scale, zero = model.quantizer(node).scale_zero
        kind, offset = QuantType.QUInt8, np.array(zero + 128, np.uint8)
        if symmetric:
            scale, kind, offset = scale * max(128 + zero, 127 - zero) / 127, QuantType.QInt8, np.array(0, np.int8)
        grids[tensor] = [{"scale": np.array(scale, np.float32), "zero_point": offset, "quant_type": kind}]
    # where the joined range goes beyond that of an activation, the activation must stay in the graph
    joined = model.source.keys() & model.network.layers.keys()
    logging.getLogger().setLevel(logging.ERROR)  # it advises a preprocessing that has been done
    quantize_static(
        float_path,
        path,
        _Blank(graph.graph.input),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={
            "TensorQuantOverrides": grids,
            "WeightSymmetric": True,
            "ActivationSymmetric": False,
            "QDQKeepRemovableActivations": bool(joined),
            **(SYMMETRIC if symmetric else {}),
        },
    )
