"""The options of every command that runs a model."""

from __future__ import annotations

import argparse

from edge.inference.detector import Detector, load
from edge.inference.runtimes import DELEGATES


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the model folder and how to run it."""
    parser.add_argument("model", help="the model folder")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of the model (default: 1)")
    parser.add_argument("--delegate", choices=DELEGATES, help="run the file compiled for this accelerator")


def detector(arguments: argparse.Namespace) -> Detector:
    """The detector that the options ask for."""
    return load(arguments.model, arguments.threads, arguments.delegate)
