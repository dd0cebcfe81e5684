"""The code that runs on the device: numpy, opencv and one model runtime, nothing else.

The imports wait for the call, so that whoever needs one module of `edge` gets that one alone.
"""

from __future__ import annotations

import importlib


def load(folder, threads: int = 1, delegate=None):
    """The detector in a model folder, on `threads` CPU threads or on the accelerator of a delegate ("edgetpu");
    ModelError when it is not usable."""
    return importlib.import_module("edge.inference.detector").load(folder, threads, delegate)


def predict(folder, sample, threads: int = 1, delegate=None):
    """The verdict of a model folder on one sample, uint8 [H, W, 3] RGB or [H, W, frames] grey; use `load` for more."""
    return load(folder, threads, delegate).predict(sample)


def stream(folder, where, **options):
    """Iterates over the judged frames of a video file, an address or a camera's number; see `edge.app.stream`."""
    return importlib.import_module("edge.app.stream").stream(folder, where, **options)
