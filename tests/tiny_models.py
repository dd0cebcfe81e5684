"""Tiny deployed models for the tests: a 3x3 convolution, stride 2, as float and int8 TFLite and as ONNX;
and a TFLite file with state.

Run as a script it writes the TFLite files into a folder, so that tensorflow stays out of the tests."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edge.inference.modelfile import write_model

SIZE, STEP = 16, 1 / 255
random = np.random.default_rng(0)
KERNEL = random.normal(size=(3, 3, 3)).astype(np.float32)  # [y, x, channel]
BIAS = np.float32(0.1)


def build_tflite(folder: Path) -> None:
    """Writes both TFLite files with tensorflow's converter."""
    import tensorflow as tf

    class Net(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, SIZE, SIZE, 3], tf.float32)])
        def __call__(self, x):
            return {"anomaly_map": tf.nn.conv2d(x, KERNEL[..., None], 2, "VALID") + BIAS}

    class Memory(tf.Module):
        """The map is |frame - memory|, the next memory half of it plus the frame."""

        @tf.function(
            input_signature=[tf.TensorSpec([1, SIZE, SIZE, 1], tf.float32, name) for name in ("frame", "memory")]
        )
        def __call__(self, frame, memory):
            return {"map": tf.abs(frame - memory), "next": memory / 2 + frame}

    memory = Memory()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([memory.__call__.get_concrete_function()], memory)
    (folder / "memory.tflite").write_bytes(converter.convert())
    net = Net()
    for kind in ("float", "int8"):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([net.__call__.get_concrete_function()], net)
        if kind == "int8":
            samples = np.random.default_rng(1).random((8, 1, SIZE, SIZE, 3), np.float32)
            samples[0], samples[1] = 0, 1  # the whole input range, so that the scale is 1/255
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda s=samples: ([x] for x in s)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        (folder / f"{kind}.tflite").write_bytes(converter.convert())


def build_onnx(path: Path) -> None:
    """Writes an ONNX file with the outputs `anomaly_map` [1, 1, h, w] and `score` [1] (the mean of the map)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    side = (SIZE - 3) // 2 + 1
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["anomaly_map"], strides=[2, 2]),
        helper.make_node("ReduceMean", ["anomaly_map"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Identity", ["mean"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [1, 1, side, side]),
        ],
        [
            numpy_helper.from_array(KERNEL.transpose(2, 0, 1)[None], "kernel"),
            numpy_helper.from_array(np.array([BIAS]), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def describe(file: str, format: str, dtype: str, layout: str, output: tuple[float, int] | None) -> dict:
    """A valid `model.json` without schema and files."""
    scale, zero_point = output or (None, None)
    side = (SIZE - 3) // 2 + 1
    grid = {"scale": scale, "zero_point": zero_point}
    quantization = {"scheme": "int8 weights per channel", "ranges": "of 8 random pictures", "output": grid}
    return {
        "task": "anomaly",
        "name": f"tiny-{dtype}",
        "file": file,
        "format": format,
        "input": {
            "height": SIZE,
            "width": SIZE,
            "color": "rgb",
            "frames": 1,
            "step": 1,
            "resize": "stretch",
            "layout": layout,
            "dtype": dtype,
            "scale": STEP,
            "zero_point": -128 if dtype == "int8" else 0,
        },
        "outputs": [
            {
                "name": "anomaly_map",
                "meaning": "map",
                "height": side,
                "width": side,
                "channels": 1,
                "dtype": dtype,
                "scale": scale,
                "zero_point": zero_point,
            }
        ],
        "state": [],
        "score": {"rule": "max", "smooth": 3, "sigma": 1.0},
        "threshold": {"value": 0.5, "method": "0.98 quantile of 28 good validation scores"},
        "quantization": quantization if dtype == "int8" else None,
        "cost": {"params": 28, "macs": 27 * side * side},
        "made_by": {"test": "tiny_models"},
    }


def tensor_names(path: Path) -> dict[str, str]:
    """What the converter made of the names of a TFLite file's inputs and outputs."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner()
    return {key: tensor["name"] for key, tensor in (runner.get_input_details() | runner.get_output_details()).items()}


@functools.cache
def build() -> Path:
    """The folder with the model folders `int8`, `float` (TFLite) and `onnx`, and memory.tflite; built once per run."""
    import atexit

    from ai_edge_litert.interpreter import Interpreter

    root = Path(tempfile.mkdtemp(prefix="tiny-models-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    repository = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(repository), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, __file__, str(root)], check=True, env=environment, capture_output=True)
    for kind, dtype in (("float", "float32"), ("int8", "int8")):
        folder = root / kind
        folder.mkdir()
        shutil.move(root / f"{kind}.tflite", folder / "model.tflite")
        quantization = Interpreter(str(folder / "model.tflite")).get_output_details()[0]["quantization"]
        info = describe("model.tflite", "tflite", dtype, "nhwc", quantization if dtype == "int8" else None)
        write_model(folder, json.loads(json.dumps(info, default=float)))
    (root / "onnx").mkdir()
    build_onnx(root / "onnx" / "model.onnx")
    info = describe("model.onnx", "onnx", "float32", "nchw", None)
    score = {"name": "score", "meaning": "score", "height": 1, "width": 1, "channels": 1}
    info["outputs"].append({**score, "dtype": "float32", "scale": 1.0, "zero_point": 0})
    write_model(root / "onnx", info)
    return root


if __name__ == "__main__":
    build_tflite(Path(sys.argv[1]))
