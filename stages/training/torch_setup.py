"""Makes torch's results repeatable (seed, threads, deterministic kernels) and its steps faster (allocator)."""

import ctypes
import os

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def prepare(seed: int, threads: int) -> None:
    """Fixes all that results depend on; the thread count is a param because the order of sums depends on it."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, deterministic kernels refuse to run
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # NaN for what nothing reads took a quarter of a step
    keep_freed_memory()


def accelerator() -> torch.device:
    """Where the student is trained: the GPU where torch finds one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def mixed(device: torch.device):
    """A context for mixed precision (bfloat16) on a GPU; on a CPU it changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def mixed_anywhere(device: torch.device):
    """A context for mixed precision on a GPU, and on a CPU that multiplies bfloat16 itself; on others it would be slow.

    For networks of wide convolutions, whose steps take half the time: results depend on the processor more than else.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or multiplies_bfloat16())


def multiplies_bfloat16() -> bool:
    """Whether this x86 processor has instructions for bfloat16 products (AVX-512 BF16 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def keep_freed_memory() -> None:
    """Tells glibc to reuse the memory of freed tensors: returning it, and having it mapped and zeroed again, took half
    the time of a training step. No effect with other C libraries."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
