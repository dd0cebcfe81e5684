"""The Edge TPU: a TFLite file that `edgetpu_compiler` compiled lies beside the model's own, and a delegate runs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

from edge.errors import ModelError, reason
from edge.inference.formats import Accelerator
from edge.inference.runtimes import tflite

ACCELERATOR = Accelerator("libedgetpu.so.1", "sudo apt install libedgetpu1-std (from Coral's package source)")


class EdgeTPU(tflite.TFLite):
    """The compiled file; what the compiler left runs on the CPU."""

    def _options(self, library: ModuleType) -> dict[str, Any]:
        shared, failed = ACCELERATOR.library, ""
        with _quiet():
            try:
                return {"experimental_delegates": [library.load_delegate(shared)]}
            except Exception as error:  # OSError, ValueError; AttributeError for a library of another kind
                failed = reason(error)
        if "No such file" in failed:
            failed += f"; {ACCELERATOR.install}"
        raise ModelError(f"{FORMAT.name}: {shared} can't be used: {failed}")

    def _delegate(self) -> str:
        return FORMAT.name


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what the delegate's `__del__` raises where its `__init__` failed: Python would print a traceback."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = before


FORMAT = replace(
    tflite.FORMAT,
    name="edgetpu",
    title="Edge TPU",
    runtime=EdgeTPU,
    precisions=("int8",),
    stored_as="tflite",
    accelerator=ACCELERATOR,
)
