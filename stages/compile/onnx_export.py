"""Torch networks to ONNX, simplified, with fixed shapes."""

import contextlib
import io
import warnings
from pathlib import Path

import onnx
import onnxsim
import torch
from torch import nn

from edge.errors import UserError
from stages.graph.network import Network

OPSET = 17  # a choice


def export(
    model: nn.Module, size: tuple[int, int], path: Path, outputs: list[str], channels: int = 3
) -> onnx.ModelProto:
    """Writes the network for a sample [1, channels, *size] in 0..1; input `image`, outputs named as given. States are
    more inputs, and their next values more outputs, of the names of their nodes.

    UserError where the simplified graph differs or a shape isn't fixed.
    """
    image = torch.zeros(1, channels, *size)
    states = model.states if isinstance(model, Network) else {}
    given = (image, *model.zeros(image)) if states else (image,)
    inputs, outputs = ["image", *states], [*outputs, *states.values()]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, given, path, input_names=inputs, output_names=outputs, opset_version=OPSET, dynamo=False
        )
    graph, same = onnxsim.simplify(onnx.load(path))
    if not same:
        raise UserError(f"{path.name}: the simplified ONNX graph computes something else; report the network")
    if states:
        join_padding(graph)
    for value in graph.graph.output:
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if not all(dims):
            raise UserError(f"{path.name}: output {value.name} has no fixed shape {dims}; can't be deployed")
    onnx.save(graph, path)
    return graph


def join_padding(graph: onnx.ModelProto) -> None:
    """Makes the zeros around an input the padding of the convolutions that take it.

    A Pad of a state with as many channels as rows would be taken for one of a picture in another layout by onnx2tf.
    """
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    inputs = {value.name for value in graph.graph.input}
    for pad in [node for node in graph.graph.node if node.op_type == "Pad" and node.input[0] in inputs]:
        takers = [node for node in graph.graph.node if pad.output[0] in node.input]
        if not all(node.op_type == "Conv" for node in takers):
            continue
        around = weights[pad.input[1]].reshape(2, 4)[:, 2:].ravel().tolist()  # top, left, bottom, right
        for node in takers:
            node.input[0] = pad.input[0]
            (pads,) = [a for a in node.attribute if a.name == "pads"]
            pads.ints[:] = [before + more for before, more in zip(pads.ints, around, strict=True)]
        graph.graph.node.remove(pad)
    onnx.checker.check_model(graph)


def cost(graph: onnx.ModelProto) -> dict[str, int]:
    """Parameters and multiply-accumulates of a torch module's exported graph, from convolutions and matrix products.

    Tensors that are equal count once: the exporter merges them, as it does weights that are used at several scales.
    """
    graph = onnx.shape_inference.infer_shapes(graph)
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in [*graph.graph.value_info, *graph.graph.output, *graph.graph.input]
    }
    weights = {t.name: list(t.dims) for t in graph.graph.initializer}
    shapes |= weights
    macs = 0
    for node in graph.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            out, right = shapes[node.output[0]], shapes[node.input[1]]
            count = torch.Size(out).numel()
            if node.op_type == "Conv":
                macs += count * torch.Size(right[1:]).numel()
            else:
                transposed = any(a.name == "transB" and a.i for a in node.attribute)
                macs += count * right[-1 if transposed else -2]
    parameters = sum(
        torch.Size(weights[t.name]).numel() for t in graph.graph.initializer if t.data_type == onnx.TensorProto.FLOAT
    )
    return {"params": parameters, "macs": macs}
