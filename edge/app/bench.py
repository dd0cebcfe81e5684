"""`python -m edge bench MODEL`: how long the model takes on this machine."""

from __future__ import annotations

import json
from time import perf_counter_ns

import numpy as np

from edge.app import options
from edge.errors import UserError
from edge.inference import scoring
from edge.inference.detector import Detector

WARMUP = 20


def register(commands) -> None:
    parser = commands.add_parser("bench", help="measure the time of one inference")
    options.add_model(parser)
    parser.add_argument("--runs", type=int, default=1000, metavar="N", help="timed inferences (default: 1000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments) -> int:
    if arguments.runs < 2:
        raise UserError(f"--runs {arguments.runs}: must be at least 2")
    result = measure(options.detector(arguments), arguments.runs) | {"threads": arguments.threads}
    if arguments.json:
        print(json.dumps(result, indent=2))
        return 0
    runtime = f"{result['runtime']} ({result['delegate'] or 'no delegate'})"
    print(f"{result['model']}: {runtime}, {result['threads']} thread(s), {result['runs']} runs")
    for what, meaning in (("invoke_ms", "tensor to map"), ("predict_ms", "picture to score")):
        times = result[what]
        shown = "  ".join(f"{key} {value:.3f}" for key, value in times.items())
        print(f"{meaning:<17} {shown} ms, {1000 / times['p50']:.1f} per second")
    return 0


def measure(detector: Detector, runs: int) -> dict:
    """Times in ms of the inference alone, and of a picture at the model's size to its score."""
    info, runtime = detector.info, detector.runtime
    image = np.random.default_rng(0).integers(0, 256, (info.input.height, info.input.width, 3), dtype=np.uint8)
    tensor = runtime.prepare(image)

    def predict():
        map, output = runtime.run(image)
        scoring.image_score(map, info.score.rule, info.score.smooth, output)

    return {
        "model": info.name,
        "runtime": f"{runtime.details['name']} {runtime.details['version']}",
        "delegate": runtime.details["delegate"],
        "runs": runs,
        "invoke_ms": _times(lambda: runtime.invoke(tensor), runs),
        "predict_ms": _times(predict, runs),
    }


def _times(action, runs: int) -> dict:
    for _ in range(WARMUP):
        action()
    samples = []
    for _ in range(runs):
        start = perf_counter_ns()
        action()
        samples.append((perf_counter_ns() - start) / 1e6)
    p50, p90, p99 = (float(p) for p in np.percentile(samples, [50, 90, 99]))
    return {"p50": p50, "p90": p90, "p99": p99, "mean": float(np.mean(samples))}
