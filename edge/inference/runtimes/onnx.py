"""ONNX files on the CPU, with onnxruntime; an int8 one is in QDQ form and keeps float32 tensors at its ends."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from edge.arrays import Raw
from edge.inference.formats import Format, Library, Tensor, describe

PROVIDER = "CPUExecutionProvider"


class ONNX:
    """An ONNX file, and external data beside it."""

    def __init__(self, library: ModuleType, path: Path, threads: int):
        options = library.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        # int8 on x86 without VNNI: exact sums, where the default kernels overflow without a word
        options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = library.InferenceSession(str(path), options, providers=[PROVIDER])
        self.inputs = [_tensor(found) for found in self._session.get_inputs()]
        self.outputs = [_tensor(found) for found in self._session.get_outputs()]
        self.details = describe(library, PROVIDER)

    def invoke(self, feeds: list[Raw], wanted: list[int]) -> list[Raw]:
        named = {tensor.name: feed for tensor, feed in zip(self.inputs, feeds)}  # noqa: B905 (strict needs Python 3.10)
        found: list[Raw] = self._session.run([self.outputs[i].name for i in wanted], named)
        return found


def _tensor(found: Any) -> Tensor:
    """`type` is "tensor(float)"; a side that is not fixed is a name or None."""
    dtype = found.type[len("tensor(") : -1]
    return Tensor(found.name, tuple(found.shape), "float32" if dtype == "float" else dtype)


FORMAT = Format(
    name="onnx",
    title="ONNX",
    files=("model.onnx",),
    runtime=ONNX,
    libraries=(Library("onnxruntime", "onnxruntime"),),
    layout="nchw",
    integer_io=False,
)
