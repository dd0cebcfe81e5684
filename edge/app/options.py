"""The options of every command that runs a model."""

from __future__ import annotations

import argparse

from edge.inference.detector import Detector, open_types
from edge.inference.modelfile import open_model
from edge.inference.runtimes import DELEGATES


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the model folder and how to run it."""
    parser.add_argument("model", help="the model folder")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of the model (default: 1)")
    parser.add_argument("--delegate", choices=DELEGATES, help="run the file compiled for this accelerator")


def add_rate(parser: argparse.ArgumentParser) -> None:
    """Adds the choice of another threshold of the model's own."""
    parser.add_argument(
        "--false-alarm-rate",
        type=float,
        metavar="F",
        help="take the model's threshold for this share of good pictures above it (`info` lists them)",
    )


def add_types(parser: argparse.ArgumentParser) -> None:
    """Adds the catalogue that the types of defects are told from."""
    parser.add_argument(
        "--types", metavar="DIR", help="tell the type of each defect from this catalogue, made with the same model"
    )


def detector(arguments: argparse.Namespace) -> Detector:
    """The detector that the options ask for."""
    info, rate = open_model(arguments.model), getattr(arguments, "false_alarm_rate", None)
    where = getattr(arguments, "types", None)
    types = None if where is None else open_types(where, info)
    return Detector(info if rate is None else info.at_rate(rate), arguments.threads, arguments.delegate, types)
