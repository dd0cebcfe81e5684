"""The int8 TFLite file, and beside it the one compiled for the Edge TPU, or the prediction of what it would map."""

from stages.compile.build import Build
from stages.compile.edgetpu import variant
from stages.compile.exporters import tflite

NODES_ONLY = True


def write(build: Build) -> dict:
    """The int8 file remains the model, for a CPU; the compiled one is beside it."""
    tflite.write(build)
    return {"edgetpu": variant.build(build.folder / "model.tflite", build.folder, build.edgetpu_compiler)}
