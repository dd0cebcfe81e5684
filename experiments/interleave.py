"""Functions timed in turns on one core: every round runs each of them, so that what disturbs the machine disturbs
all."""

import os
from collections.abc import Callable, Sequence
from time import perf_counter_ns

import numpy as np

from edge.errors import UserError
from edge.inference.detector import Detector
from edge.inference.timing import noise, since
from stages.common.progress import track

MOST_ROUNDS = 100_000  # more is a typing error


def check_rounds(rounds: int, least: int = 1) -> None:
    """UserError for a number of rounds that can't be meant."""
    if not least <= rounds <= MOST_ROUNDS:
        raise UserError(f"--rounds {rounds}: must be from {least} to {MOST_ROUNDS}")


def one_core() -> None:
    """Keeps this process on the first of the cores that it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def once(detector: Detector) -> Callable[[], object]:
    """A function that runs an exported file once, on noise that is prepared before."""
    tensors = detector.tensors(noise(detector.info.input))
    return lambda: detector.invoke_all(tensors)


def timed(runs: Sequence[Callable[[], object]], rounds: int, warm: int = 0) -> np.ndarray:
    """Times in ms [rounds, runs]. warm: untimed calls before each timed one, which then finds its data in the cache."""
    for run in runs:
        run()
    found = np.empty((rounds, len(runs)))
    for row in track(found, "rounds"):
        for i, run in enumerate(runs):
            for _ in range(warm):
                run()
            start = perf_counter_ns()
            run()
            row[i] = since(start)
    return found
