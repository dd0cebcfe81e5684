"""Functions timed in turns on one core: every round runs each of them, so that what disturbs the machine disturbs
all."""

import os
from collections.abc import Callable, Sequence
from time import perf_counter_ns

import numpy as np

from edge.errors import UserError
from edge.inference.timing import since
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


def timed(runs: Sequence[Callable[[], object]], rounds: int, warm: int = 0) -> np.ndarray:
    """Times in ms [rounds, runs]. warm: untimed calls before each timed one, which then finds its data in the cache."""
    for once in runs:
        once()
    found = np.empty((rounds, len(runs)))
    for row in track(found, "rounds"):
        for i, once in enumerate(runs):
            for _ in range(warm):
                once()
            start = perf_counter_ns()
            once()
            row[i] = since(start)
    return found
