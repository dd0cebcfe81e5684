"""OpenVINO IR (model.xml, and the weights in model.bin) on the CPU; int8 lies inside it as FakeQuantize operations."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from edge.arrays import Raw
from edge.inference.formats import Format, Library, Tensor, describe
from edge.processor import int8_may_overflow


@cache
def core(library: ModuleType) -> Any:
    """The one Core of a process, which is never freed: with the last one OpenVINO unloads its CPU plugin and with that
    the memory on which the thread that loaded it takes signals. Freed by another thread, it left an interrupt to end
    the process in a segmentation fault."""
    return library.Core()


class OpenVINO:
    """An IR, computed in float32 where it is not int8; all of it on x86 without VNNI, where OpenVINO's int8 kernels
    overflow without a word (image AUROC of a student fell from .975 to .877)."""

    def __init__(self, library: ModuleType, path: Path, threads: int):
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        network = core(library).read_model(str(path))
        exact = any(node.get_type_name() == "FakeQuantize" for node in network.get_ops()) and int8_may_overflow()
        if exact:  # rounded to the same grids, summed in float32
            settings["LP_TRANSFORMS_MODE"] = "NO"
        model = core(library).compile_model(network, "CPU", settings)
        self.inputs, self.outputs = [_tensor(t) for t in model.inputs], [_tensor(t) for t in model.outputs]
        self._request = model.create_infer_request()
        # filled in place: handing arrays over at each call took .07 ms on a Xeon
        self._sources: list[Raw] = [tensor.data for tensor in self._request.input_tensors]
        self.details = describe(library, "CPU, int8 in float32" if exact else "CPU")

    def invoke(self, feeds: list[Raw], wanted: list[int]) -> list[Raw]:
        for source, feed in zip(self._sources, feeds):  # noqa: B905 (strict needs Python 3.10)
            source[...] = feed
        self._request.infer()
        return [self._request.get_output_tensor(i).data.copy() for i in wanted]


def _tensor(found: Any) -> Tensor:
    return Tensor(found.any_name, tuple(found.shape), found.element_type.to_dtype().name)


FORMAT = Format(
    name="openvino",
    title="OpenVINO",
    files=("model.xml", "model.bin"),
    runtime=OpenVINO,
    libraries=(Library("openvino", "openvino"),),
    layout="nhwc",
    integer_io=False,
    byte_input=True,
)
