"""ONNX to float TFLite by onnx2tf, and the check that every tensor of the file is one of the network's."""

import contextlib
import logging
import os
import warnings
from pathlib import Path

import numpy as np
import torch

from edge.errors import UserError
from stages.graph.network import Network

CALIBRATION_FILE = "calibration_image_sample_data_20x128x128x3_float32.npy"
TOLERANCE = 1e-3  # relative to the largest value of a tensor: a choice


def to_tflite(onnx_path: Path, folder: Path) -> Path:
    """Converts a fixed-shape ONNX file; returns the float32 TFLite file in `folder`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    # onnx2tf compares its layers on sample pictures and downloads them unless the file lies in the working folder
    onnx_path = onnx_path.resolve()  # before the working folder changes
    samples = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
    np.save(folder / CALIBRATION_FILE, samples)
    with warnings.catch_warnings(), contextlib.chdir(folder):
        warnings.simplefilter("ignore")
        import onnx2tf

        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        onnx2tf.convert(
            input_onnx_file_path=str(onnx_path),
            output_folder_path="converted",
            copy_onnx_input_output_names_to_tflite=True,
            not_use_onnxsim=True,
            non_verbose=True,
            verbosity="error",
        )
    return folder / "converted" / f"{onnx_path.stem}_float32.tflite"


def open_interpreter(path: Path):
    """A TFLite interpreter on the plain kernels (no delegate) that keeps every intermediate tensor."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(path),
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    return interpreter


def operations(interpreter) -> list[dict]:
    """The file's operations in order: op_name, inputs and outputs (tensor numbers)."""
    return [op for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]


def sample_first(interpreter, network: Network) -> list[dict]:
    """The inputs of a file: the sample, and the states in the order of the network, whose names they keep."""
    entries = interpreter.get_input_details()
    states = {entry["name"]: entry for entry in entries if entry["name"] in network.states}
    others = [entry for entry in entries if entry["name"] not in states]
    if len(others) != 1 or len(states) < len(network.states):
        raise UserError(f"the converter renamed the inputs to {', '.join(entry['name'] for entry in entries)}")
    return [*others, *(states[name] for name in network.states)]


def match_tensors(path: Path, student: Network, image: np.ndarray) -> dict[str, str]:
    """The node of the network (batch norm folded) that each computed tensor of a float TFLite file has the values of.

    Values catch what names can't: onnx2tf renames tensors and may silently give one a wrong layout.
    image: float32 [1, H, W, C] in 0..1; states get noise. UserError when a tensor is no node's, or a node is missing.
    """
    interpreter = open_interpreter(path)
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    entries, leaves = sample_first(interpreter, student), interpreter.get_output_details()
    given = {"input": torch.from_numpy(image).permute(0, 3, 1, 2)}
    noise = torch.Generator().manual_seed(0)
    given |= {
        name: torch.rand(zero.shape, generator=noise) * 2 - 1
        for name, zero in zip(student.states, student.zeros(given["input"]), strict=True)
    }
    for entry, value in zip(entries, given.values(), strict=True):
        interpreter.set_tensor(entry["index"], np.ascontiguousarray(value.permute(0, 2, 3, 1).numpy()))
    interpreter.invoke()
    with torch.inference_mode():
        values = student.continued(given)
    values = {name: value.permute(0, 2, 3, 1).numpy() for name, value in values.items()}
    sizes = {name: float(np.abs(value).max()) for name, value in values.items()}
    for node in student.nodes:  # a small difference of large terms has their rounding errors
        if student.ops[node.name].cancels:
            sizes[node.name] = max(sizes[name] for name in (node.name, *node.inputs))
    helpers = {name for op in student.ops.values() for name in op.helpers}
    matched = {entry["name"]: name for entry, name in zip(entries, given, strict=True)}
    for op in operations(interpreter):
        for index in op["outputs"]:
            found = interpreter.get_tensor(index)
            if op["op_name"] in helpers:
                continue
            closest = _closest(found, {k: v for k, v in values.items() if k not in matched.values()}, sizes)
            if closest is None:
                raise UserError(
                    f"{path.name}: {op['op_name']} writes {tensors[index]['name']} {list(found.shape)}, which is no "
                    "tensor of the network; the converter changed its layout or order"
                )
            matched[tensors[index]["name"]] = closest
    missing = set(values) - set(matched.values())
    if missing or {matched[leaf["name"]] for leaf in leaves} != set(student.results):
        raise UserError(f"{path.name}: the converted file lacks {sorted(missing) or student.results}")
    return matched


def _closest(found: np.ndarray, values: dict[str, np.ndarray], sizes: dict[str, float]) -> str | None:
    """The name of the value closest to `found`; None where none is within TOLERANCE. sizes: their largest values."""
    best, best_error = None, TOLERANCE
    for name, value in values.items():
        if value.shape == found.shape:
            error = np.abs(value - found).max() / (sizes[name] + 1e-9)
            if error < best_error:
                best, best_error = name, error
    return best
