"""TFLite files on the CPU, with ai-edge-litert or, where that has no wheel, tflite-runtime."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from edge.arrays import Raw
from edge.inference.formats import Format, Library, Tensor, describe


class TFLite:
    """A TFLite file; XNNPACK takes over what it can, as both packages do by default."""

    def __init__(self, library: ModuleType, path: Path, threads: int):
        more = self._options(library)
        self._interpreter = library.Interpreter(model_path=str(path), num_threads=threads, **more)
        self._interpreter.allocate_tensors()
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.inputs, self.outputs = [_tensor(d) for d in inputs], [_tensor(d) for d in outputs]
        self._sources, self._targets = [d["index"] for d in inputs], [d["index"] for d in outputs]
        self.details = describe(library, self._delegate())

    def invoke(self, feeds: list[Raw], wanted: list[int]) -> list[Raw]:
        for index, tensor in zip(self._sources, feeds):  # noqa: B905 (strict needs Python 3.10)
            self._interpreter.set_tensor(index, tensor)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(self._targets[i]) for i in wanted]

    def _options(self, library: ModuleType) -> dict[str, Any]:
        """More arguments of the interpreter."""
        return {}

    def _delegate(self) -> str | None:
        """The CPU delegate that took over operators: no other than XNNPACK is on by default."""
        operators: list[dict[str, Any]] = getattr(self._interpreter, "_get_ops_details", list)()
        return "XNNPACK" if any(o["op_name"] == "DELEGATE" for o in operators) else None


def _tensor(details: dict[str, Any]) -> Tensor:
    return Tensor(
        details["name"], tuple(details["shape"].tolist()), details["dtype"].__name__, *details["quantization"]
    )


FORMAT = Format(
    name="tflite",
    title="TFLite",
    files=("model.tflite",),
    runtime=TFLite,
    libraries=(
        Library("ai-edge-litert", "ai_edge_litert.interpreter", not_on=("armv6", "armv7")),
        Library("tflite-runtime", "tflite_runtime.interpreter"),
    ),
    layout="nhwc",
    integer_io=True,
)
