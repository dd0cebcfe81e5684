"""How long an inference takes: the one loop that measures it, and what is told of the times."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns

import numpy as np

from edge.arrays import Image
from edge.inference.modelspec import InputSpec

SEED = 0  # of the sample that every measurement gets


def noise(spec: InputSpec) -> Image:
    """A fixed sample of noise that fills the model's input, all of its tiles, uint8."""
    shape = (*spec.geometry.canvas, spec.channels)
    return np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)


def timed(runs: int, action: Callable[[], object], between: Callable[[], object] = lambda: None) -> list[float]:
    """The times of `runs` calls of `action` in ms; `between` is called after each, outside the time."""
    samples = []
    for _ in range(runs):
        start = perf_counter_ns()
        action()
        samples.append(since(start))
        between()
    return samples


def since(start: int) -> float:
    """ms since a value of perf_counter_ns."""
    return (perf_counter_ns() - start) / 1e6


def summary(samples: list[float]) -> dict[str, float]:
    """Percentiles (linear interpolation), mean and sample standard deviation."""
    p50, p90, p99 = (float(p) for p in np.percentile(samples, [50, 90, 99]))
    return {"p50": p50, "p90": p90, "p99": p99, "mean": float(np.mean(samples)), "std": float(np.std(samples, ddof=1))}
