"""A TFLite model on TFLite's own kernels instead of XNNPACK's, to see what the choice costs.

Their int8 results differ: XNNPACK requantizes in one step, TFLite's own kernels in fixed point, and the reference ones
round twice. No device chooses between them; XNNPACK is what the packages use where it is built in."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

from edge.errors import ModelError
from edge.inference.detector import Detector
from edge.inference.formats import Format
from edge.inference.runtimes import tflite


class Builtin(tflite.TFLite):
    """The optimized ones, for want of XNNPACK."""

    RESOLVER = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"  # in the packages' OpResolverType

    def _options(self, library: ModuleType) -> dict[str, Any]:
        return {"experimental_op_resolver_type": getattr(library.OpResolverType, self.RESOLVER)}


class Reference(Builtin):
    """The plain ones in C++, which define what an operator is."""

    RESOLVER = "BUILTIN_REF"


KERNELS: dict[str, Format] = {
    name: replace(tflite.FORMAT, runtime=runtime) for name, runtime in (("builtin", Builtin), ("reference", Reference))
}


def use(detector: Detector, name: str) -> Detector:
    """The same detector with those kernels, on one thread; ModelError for a model of another format."""
    info = detector.info
    if info.format != tflite.FORMAT.name:
        raise ModelError(f"{info.path}: a model of format {info.format} has no kernels {name}; only TFLite's have")
    detector.runtime = KERNELS[name].open(info.path, 1, info.sha256)
    detector.details = detector.runtime.details
    return detector
