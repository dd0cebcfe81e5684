"""The ONNX file of which a device with TensorRT builds its engine: float, or int8 in symmetric QDQ form."""

import shutil

from stages.compile.build import Build
from stages.compile.exporters.onnx import source

NODES_ONLY = False


def write(build: Build) -> dict:
    """No engine: it would fit one GPU and version alone. ONNX Runtime runs the file where there is no TensorRT."""
    shutil.copy(source(build, symmetric=True), build.folder / "model.onnx")
    return {"tensorrt": {"precision": build.precision}}
