"""`python -m edge bench MODEL`: how long the model takes on this machine."""

from __future__ import annotations

import argparse
import json
from typing import Any

from edge.app import options
from edge.errors import shown
from edge.inference import timing
from edge.inference.detector import Detector

WARMUP = 20


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bench", help="measure the time of one inference")
    options.add_model(parser)
    parser.add_argument("--runs", type=int, default=1000, metavar="N", help="timed inferences (default: 1000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    result = measure(options.detector(arguments), arguments.runs) | {"threads": arguments.threads}
    if arguments.json:
        print(json.dumps(result, indent=2))
        return 0
    runtime = f"{result['runtime']} ({result['delegate'] or 'no delegate'})"
    print(f"{shown(result['model'])}: {runtime}, {result['threads']} thread(s), {result['runs']} runs")
    for what, meaning in (("invoke_ms", "tensor to map"), ("predict_ms", "picture to score")):
        times = result[what]
        told = "  ".join(f"{key} {value:.3f}" for key, value in times.items())
        print(f"{meaning:<17} {told} ms, {1000 / times['p50']:.1f} per second")
    return 0


def measure(detector: Detector, runs: int) -> dict[str, Any]:
    """Times in ms for one picture: of the inference alone (of all tiles), and of a sample at the model's size to its
    score."""
    sample = timing.noise(detector.info.input)
    tensors = detector.tensors(sample)
    found = {}
    for name, action in (
        ("invoke_ms", lambda: detector.invoke_all(tensors)),
        ("predict_ms", lambda: detector.judge(sample)),
    ):
        timing.timed(WARMUP, action)
        found[name] = timing.summary(timing.timed(runs, action))
    return {
        "model": detector.info.name,
        "runtime": f"{detector.details['name']} {detector.details['version']}",
        "delegate": detector.details["delegate"],
        "runs": runs,
        **found,
    }
