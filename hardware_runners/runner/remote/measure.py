"""Measures a model folder on this machine and prints JSON: `python -m hardware_runners.runner.remote.measure MODEL`.

The thread counts of one call share a process, so only the first block has a clean start and peak of memory:
`hardware_runners.runner.transports` starts one process for each."""

from __future__ import annotations

import sys
from time import perf_counter_ns
from typing import Any

import numpy as np

from edge.inference.detector import Detector, prepare
from edge.inference.modelfile import open_model
from edge.inference.modelinfo import ModelInfo
from edge.inference.runtimes import FORMATS
from edge.inference.timing import noise, since, summary, timed
from hardware_runners.runner.remote import job, machine


def measure(folder: str, runs: int, warmup: int, threads: list[int], delegate: str | None = None) -> dict[str, Any]:
    """The machine, the runtime and one block of `runs` timed inferences per thread count; times in ms, of one picture:
    of all its tiles."""
    info = open_model(folder)
    start = perf_counter_ns()
    FORMATS[delegate or info.format].library()
    import_ms = since(start)
    prepare(info, delegate)
    found = [_block(info, runs, warmup, count, delegate) for count in threads]
    blocks, details = [block for block, _ in found], found[-1][1]
    return {
        "sha256": info.sha256,
        "machine": {**machine.describe(), **blocks[0]["before"]},
        "runtime": {**details, "numpy": np.__version__, "import_ms": import_ms},
        "blocks": blocks,
    }


def _block(
    info: ModelInfo, runs: int, warmup: int, threads: int, delegate: str | None
) -> tuple[dict[str, Any], dict[str, str | None]]:
    before = machine.state()
    start = perf_counter_ns()
    detector = Detector(info, threads, delegate)
    init_ms = since(start)
    sample = noise(info.input)
    tensors = detector.tensors(sample)
    first, rest, samples = (
        timed(count, lambda: detector.invoke_all(tensors), job.end_with_parent) for count in (1, warmup - 1, runs)
    )
    whole = timed(min(runs, 50), lambda: detector.judge(sample), job.end_with_parent)
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
    return block, detector.details


def main(argv: list[str] | None = None) -> int:
    """Prints the measurement as JSON; one line on stderr and 1 when the model can't be run."""
    parser = job.parser("measure", __doc__)
    parser.add_argument("--runs", type=int, default=200, metavar="N", help="timed inferences per block, at least 2")
    parser.add_argument("--warmup", type=int, default=10, metavar="N", help="inferences before them, at least 1")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="N", help="one block per thread count")
    given = parser.parse_args(argv)
    if given.runs < 2 or given.warmup < 1:
        parser.error("--runs must be at least 2 and --warmup at least 1")
    return job.answer(lambda: measure(given.model, given.runs, given.warmup, given.threads, given.delegate))


if __name__ == "__main__":
    sys.exit(main())
