"""TFLite: the converted float file, or full int8 on the grids of the network."""

import shutil

import numpy as np

from stages.compile import int8, tflite
from stages.compile.build import Build

NODES_ONLY = True


def write(build: Build) -> dict:
    float_path, path = tflite.to_tflite(build.float_onnx, build.work), build.folder / "model.tflite"
    names = tflite.match_tensors(float_path, build.network, probe(build).astype(np.float32) / 255)
    build.renamed = {node: tensor for tensor, node in names.items()}
    if build.quantized is None:
        shutil.copy(float_path, path)
    else:
        int8.quantize(float_path, path, build.quantized, names)
    return {}


def probe(build: Build) -> np.ndarray:
    """A sample [1, S, S, C] that tells the tensors apart: of a clip noise, since equal frames give equal tensors."""
    channels = build.network.channels
    if channels == build.samples.shape[3] == 3:
        return build.samples[:1]
    return np.random.default_rng(0).integers(0, 256, (*build.samples[:1].shape[:3], channels), np.uint8)
