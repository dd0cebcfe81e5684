"""The ONNX file of which a device with TensorRT builds its engine: float, or int8 in symmetric QDQ form."""

import shutil

from stages.compile import onnx_int8
from stages.compile.build import Build

NODES_ONLY = False


def write(build: Build) -> dict:
    """No engine: it would fit one GPU and version alone. ONNX Runtime runs the file where there is no TensorRT."""
    path = build.folder / "model.onnx"
    if build.quantized is None:
        shutil.copy(build.float_onnx, path)
    else:
        onnx_int8.quantize(build.float_onnx, path, build.quantized, symmetric=True)
    return {"tensorrt": {"precision": build.precision}}
