"""The Edge TPU: a TFLite file that `edgetpu_compiler` compiled lies beside the model's own, and a delegate runs it."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

from edge.errors import ModelError
from edge.inference.formats import Accelerator, one_line
from edge.inference.runtimes import tflite

ACCELERATOR = Accelerator("libedgetpu.so.1", "sudo apt install libedgetpu1-std (from Coral's package source)")


class EdgeTPU(tflite.TFLite):
    """The compiled file; what the compiler left runs on the CPU."""

    def _options(self, library: ModuleType) -> dict[str, Any]:
        shared = ACCELERATOR.library
        try:
            return {"experimental_delegates": [library.load_delegate(shared)]}
        except (OSError, ValueError) as error:
            raise ModelError(f"{FORMAT.name}: {shared} can't be used: {one_line(error) or 'no device'}") from None

    def _delegate(self) -> str:
        return FORMAT.name


FORMAT = replace(
    tflite.FORMAT,
    name="edgetpu",
    title="Edge TPU",
    runtime=EdgeTPU,
    precisions=("int8",),
    stored_as="tflite",
    accelerator=ACCELERATOR,
)
