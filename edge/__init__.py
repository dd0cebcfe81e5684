"""The code that runs on the device: numpy, opencv and one model runtime, nothing else.

The imports wait for the call, so that whoever needs one module of `edge` gets that one alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from edge.app.stream import Stream
    from edge.arrays import Image
    from edge.inference.detector import Detector, Prediction


def load(
    folder: str | Path, threads: int = 1, delegate: str | None = None, types: str | Path | None = None
) -> Detector:
    """The detector in a model folder, on `threads` CPU threads or on the accelerator of a delegate ("edgetpu",
    "tensorrt"); ModelError when it is not usable. types: the folder of a catalogue made with this model, from which the
    type of a defect is told (`Prediction.type`)."""
    found: Detector = importlib.import_module("edge.inference.detector").load(folder, threads, delegate, types)
    return found


def predict(folder: str | Path, sample: Image, threads: int = 1, delegate: str | None = None) -> Prediction:
    """The verdict of a model folder on one sample, uint8 [H, W, 3] RGB or [H, W, frames] grey; use `load` for more."""
    return load(folder, threads, delegate).predict(sample)


def stream(folder: str | Path | Detector, where: str | Path | int, **options: Any) -> Stream:
    """Iterates over the judged frames of a video file, an address or a camera's number; see `edge.app.stream`."""
    found: Stream = importlib.import_module("edge.app.stream").stream(folder, where, **options)
    return found
