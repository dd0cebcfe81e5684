"""Float TFLite to full-int8 TFLite with the ranges of a fake-quantized network, and a check of the file."""

from pathlib import Path

import numpy as np

from edge.errors import UserError
from stages.compile.tflite import open_interpreter, operations
from stages.graph.operations import KINDS
from stages.graph.quantize import QuantNetwork


def quantize(float_path: Path, path: Path, model: QuantNetwork, names: dict[str, str]) -> None:
    """Writes the int8 file: the range of each node replaces calibration (names: the node of each tensor).

    UserError names a layer that can't be quantized.
    """
    from ai_edge_quantizer import quantizer, recipe

    check_operations(float_path, names)
    ranges = {}
    for tensor, node in names.items():
        low, high = model.quantizer(node).range.tolist()
        ranges[tensor] = {"min": np.full((1,) * 4, low, np.float32), "max": np.full((1,) * 4, high, np.float32)}
    tool = quantizer.Quantizer(str(float_path))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    tool.quantize(ranges, enable_progress_report=False).export_model(str(path), overwrite=True)
    check_grids(path, model, names)


def check_operations(float_path: Path, names: dict[str, str]) -> None:
    """UserError for the first operator whose int8 arithmetic is not simulated."""
    known = sorted({name for kind in KINDS.values() for name in (*kind.tflite, *kind.helpers)})
    interpreter = open_interpreter(float_path)
    tensors = {t["index"]: t["name"] for t in interpreter.get_tensor_details()}
    for op in operations(interpreter):
        if op["op_name"] not in known:
            layer = tensors[int(op["outputs"][0])]
            raise UserError(
                f"layer {names.get(layer, layer)}: {op['op_name']} can't be quantized; build the network from "
                f"{', '.join(known)}, or export this variant in float32"
            )


def check_grids(path: Path, model: QuantNetwork, names: dict[str, str]) -> None:
    """UserError unless the file is all int8 and every activation has scale and zero point of its node."""
    interpreter = open_interpreter(path)
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    produced = {int(i) for op in operations(interpreter) for i in op["outputs"]}
    produced |= {int(entry["index"]) for entry in interpreter.get_input_details()}
    placed = set()
    for index in produced:
        tensor = tensors[index]
        if tensor["dtype"] != np.int8:
            raise UserError(f"{path.name}: {tensor['name']} is {tensor['dtype'].__name__}, not int8; not all integer")
        node = names.get(tensor["name"])
        if node is None:
            continue
        scale, zero = model.quantizer(node).scale_zero
        found_scale, found_zero = tensor["quantization"]
        if np.float32(found_scale) != np.float32(scale) or found_zero != zero:
            raise UserError(
                f"{path.name}: {node} was given the grid ({scale:.8g}, {zero}) "
                f"but the file has ({found_scale:.8g}, {found_zero})"
            )
        placed.add(node)
    missing = set(names.values()) - placed
    if missing:
        raise UserError(f"{path.name}: no tensor carries the range of {sorted(missing)}")
