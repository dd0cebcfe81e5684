"""ONNX for onnxruntime: float, or int8 in QDQ form on the grids of the network."""

import shutil
from pathlib import Path

from stages.compile import onnx_int8
from stages.compile.build import Build

NODES_ONLY = False


def write(build: Build) -> dict:
    shutil.copy(source(build), build.folder / "model.onnx")
    return {}


def source(build: Build, symmetric: bool = False) -> Path:
    """The ONNX file in the precision of the build; `symmetric`: int8 around zero."""
    if build.quantized is None:
        return build.float_onnx
    path = build.work / "int8.onnx"
    onnx_int8.quantize(build.float_onnx, path, build.quantized, symmetric)
    return path
