"""A YOLOX detector as an int8 TFLite file, by the converters of `compile`: ONNX to float TFLite to int8.

Its one output mixes offsets and logarithms (about -3 to 5) with scores (0 to 1), for which no grid of 256 values is
fine enough: it becomes two, boxes [1, N, 4] and scores [1, N, 1 + classes], each with a grid of its own. The decoding
(exponentials, objectness times class scores) is done by `edge` in float, as for the float file.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.errors import UserError
from stages.compile.tflite import open_interpreter, operations, to_tflite

PIXELS = (0.0, 255.0)  # the input's range: a grid of step 1, so that no pixel is rounded


def split(path: Path) -> onnx.ModelProto:
    """The network of a published YOLOX file with two outputs instead of one; UserError where it is none."""
    model = onnx.load(str(path))
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}

    def maker(name: str, kind: str) -> onnx.NodeProto:
        node = makers.get(name)
        if node is None or node.op_type != kind:
            raise UserError(f"{path}: not the output of YOLOX: {name} is made by {node.op_type if node else 'nothing'}")
        return node

    if len(graph.output) != 1:
        raise UserError(f"{path}: has {len(graph.output)} outputs; a published YOLOX file has one")
    levels = maker(maker(graph.output[0].name, "Transpose").input[0], "Concat").input
    nodes: list[onnx.NodeProto] = []
    parts: dict[str, list[str]] = {"boxes": [], "scores": []}
    for number, level in enumerate(levels):
        joined = maker(maker(level, "Reshape").input[0], "Concat")
        if len(joined.input) != 3:
            raise UserError(f"{path}: not the output of YOLOX: {joined.name} joins {len(joined.input)} tensors, not 3")
        box, *scores = joined.input
        nodes.append(helper.make_node("Concat", scores, [f"joined_{number}"], axis=1))
        for kind, values in (("boxes", box), ("scores", f"joined_{number}")):
            nodes.append(helper.make_node("Reshape", [values, f"flat_{kind}"], [f"{kind}_{number}"]))
            parts[kind].append(f"{kind}_{number}")
    classes = graph.output[0].type.tensor_type.shape.dim[2].dim_value - 5
    count = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    sizes = {"boxes": 4, "scores": 1 + classes}
    for kind, values in parts.items():
        graph.initializer.append(numpy_helper.from_array(np.array([1, sizes[kind], -1]), f"flat_{kind}"))
        nodes.append(helper.make_node("Concat", values, [f"{kind}_all"], axis=2))
        nodes.append(helper.make_node("Transpose", [f"{kind}_all"], [kind], perm=[0, 2, 1]))
    graph.node.extend(nodes)
    del graph.output[:]
    shapes = {kind: [1, count, size] for kind, size in sizes.items()}
    graph.output.extend(helper.make_tensor_value_info(kind, TensorProto.FLOAT, shape) for kind, shape in shapes.items())
    return onnx.utils.Extractor(model).extract_model([graph.input[0].name], list(sizes))


def ranges(path: Path, pictures: Iterable[np.ndarray]) -> tuple[dict[str, dict], int]:
    """The least and largest value of every tensor of a float file over pictures [1, H, W, 3], and how many they are."""
    interpreter = open_interpreter(path)
    entry = interpreter.get_input_details()[0]
    names = {t["index"]: t["name"] for t in interpreter.get_tensor_details()}
    made = sorted({int(i) for op in operations(interpreter) for i in op["outputs"]})
    found = {index: [np.inf, -np.inf] for index in made}
    count = 0
    for picture in pictures:
        interpreter.set_tensor(entry["index"], picture)
        interpreter.invoke()
        count += 1
        for index, bounds in found.items():
            values = interpreter.get_tensor(index)
            bounds[:] = min(bounds[0], float(values.min())), max(bounds[1], float(values.max()))
    if not count:
        raise UserError("no pictures to calibrate with")
    grid = {names[index]: bounds for index, bounds in found.items()} | {entry["name"]: list(PIXELS)}
    shape = {name: len(interpreter.get_tensor(index).shape) for index, name in names.items() if name in grid}
    return {
        name: {
            "min": np.full((1,) * shape[name], low, np.float32),
            "max": np.full((1,) * shape[name], high, np.float32),
        }
        for name, (low, high) in grid.items()
    }, count


def quantize(path: Path, target: Path, pictures: Iterable[np.ndarray]) -> int:
    """Writes the int8 file of a YOLOX file in ONNX; returns how many pictures [1, H, W, 3] it was calibrated with.

    UserError unless every tensor that is computed is int8."""
    from ai_edge_quantizer import quantizer, recipe

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        onnx.save(split(path), str(work / "split.onnx"))
        converted = to_tflite(work / "split.onnx", work)
        found, count = ranges(converted, pictures)
        tool = quantizer.Quantizer(str(converted))
        tool.load_quantization_recipe(recipe.static_wi8_ai8())
        tool.quantize(found, enable_progress_bar=False, enable_progress_report=False).export_model(
            str(target), overwrite=True
        )
    interpreter = open_interpreter(target)
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    for op in operations(interpreter):
        for index in op["outputs"]:
            if tensors[int(index)]["dtype"] != np.int8:
                raise UserError(f"{target}: {op['op_name']} computes {tensors[int(index)]['dtype'].__name__}, not int8")
    return count
