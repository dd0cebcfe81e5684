"""Measures a model folder on this machine and prints JSON: `python -m hardware_runners.runner.remote.measure MODEL`.

The thread counts of one call share a process, so only the first block has a clean start and peak of memory:
`hardware_runners.runner.transports` starts one process for each."""

from __future__ import annotations

import argparse
import json
import os
import sys
from time import perf_counter_ns

import numpy as np

from edge.inference import runtimes, scoring
from edge.inference.modelfile import ModelError, ModelInfo, open_model
from hardware_runners.runner.remote import machine

SEED = 0  # of the picture that every run gets
PARENT = os.getppid()


def measure(folder: str, runs: int, warmup: int, threads: list[int], delegate: str | None = None) -> dict:
    """The machine, the runtime and one block of `runs` timed inferences per thread count; times in ms."""
    info = open_model(folder)
    start = perf_counter_ns()
    runtimes.RUNTIMES[info.format].library()
    import_ms = _ms(start)
    blocks, details = [], {}
    for count in threads:
        block, details = _block(info, runs, warmup, count, delegate)
        blocks.append(block)
    return {
        "sha256": info.sha256,
        "machine": {**machine.describe(), **blocks[0]["before"]},
        "runtime": {**details, "numpy": np.__version__, "import_ms": import_ms},
        "blocks": blocks,
    }


def _block(info: ModelInfo, runs: int, warmup: int, threads: int, delegate: str | None) -> tuple[dict, dict]:
    before = machine.state()
    start = perf_counter_ns()
    runtime = runtimes.open_runtime(info, threads, delegate)
    init_ms = _ms(start)
    image = picture(info.input.height, info.input.width)
    tensor = runtime.prepare(image)
    first = _timed(1, lambda: runtime.invoke(tensor))
    rest = _timed(warmup - 1, lambda: runtime.invoke(tensor))
    samples = _timed(runs, lambda: runtime.invoke(tensor))
    whole = _timed(min(runs, 50), lambda: _predict(runtime, info, image))
    block = {
        "threads": threads,
        "oversubscribed": threads > machine.cores(),
        "runs": runs,
        "warmup": warmup,
        "init_ms": init_ms,
        "warmup_ms": {"first": first[0], "total": sum(first + rest)},
        "latency_ms": summary(samples),
        "samples_ms": samples,
        "predict_ms": {"p50": float(np.median(whole)), "runs": len(whole)},
        "peak_rss_mb": machine.peak_rss_mb(),
        "before": before,
        "after": machine.state(),
    }
    return block, runtime.details


def picture(height: int, width: int) -> np.ndarray:
    """A fixed picture of noise, uint8 [height, width, 3]."""
    return np.random.default_rng(SEED).integers(0, 256, (height, width, 3), dtype=np.uint8)


def summary(samples: list[float]) -> dict:
    """Percentiles (linear interpolation), mean and sample standard deviation."""
    p50, p90, p99 = (float(p) for p in np.percentile(samples, [50, 90, 99]))
    return {"p50": p50, "p90": p90, "p99": p99, "mean": float(np.mean(samples)), "std": float(np.std(samples, ddof=1))}


def _predict(runtime, info: ModelInfo, image: np.ndarray) -> float:
    """What a device does with a picture of the right size: tensor, inference, score."""
    map, output = runtime.run(image)
    return scoring.image_score(map, info.score.rule, info.score.smooth, output)


def _timed(runs: int, action) -> list[float]:
    """The times of `runs` calls in ms; ends with the process that started it: an orphan would disturb a later run."""
    samples = []
    for _ in range(runs):
        start = perf_counter_ns()
        action()
        samples.append(_ms(start))
        if os.getppid() != PARENT:
            sys.exit(1)
    return samples


def _ms(start: int) -> float:
    return (perf_counter_ns() - start) / 1e6


def main(argv: list[str] | None = None) -> int:
    """Prints the measurement as JSON; one line on stderr and 1 when the model can't be run."""
    parser = argparse.ArgumentParser(prog="python -m hardware_runners.runner.remote.measure", description=__doc__)
    parser.add_argument("model", help="the model folder")
    parser.add_argument("--runs", type=int, default=200, metavar="N", help="timed inferences per block, at least 2")
    parser.add_argument("--warmup", type=int, default=10, metavar="N", help="inferences before them, at least 1")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="N", help="one block per thread count")
    parser.add_argument("--delegate", choices=["edgetpu"], help="run a TFLite model on this accelerator")
    arguments = parser.parse_args(argv)
    if arguments.runs < 2 or arguments.warmup < 1:
        parser.error("--runs must be at least 2 and --warmup at least 1")
    try:
        result = measure(arguments.model, arguments.runs, arguments.warmup, arguments.threads, arguments.delegate)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
