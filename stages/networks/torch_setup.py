"""One place that makes torch repeatable: seed, threads, deterministic kernels."""

import torch


def prepare(seed: int, threads: int) -> None:
    """Fixes what results depend on; the thread count is a param because sums differ with it."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
