"""Memory of a CUDA GPU, by its driver's own library: nothing to install for it, and no package of some CUDA version.

The names are those of the CUDA Driver API (`cuMemAlloc_v2`, …)."""

from __future__ import annotations

import ctypes
from typing import Any

from edge.arrays import Raw
from edge.errors import ModelError

LIBRARY = "libcuda.so.1"
OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
Pointer, Size, Handle = ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (ctypes.c_uint,),
    "cuDeviceGet": (ctypes.POINTER(ctypes.c_int), ctypes.c_int),
    "cuDeviceGetName": (ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
    "cuDevicePrimaryCtxRetain": (ctypes.POINTER(Handle), ctypes.c_int),
    "cuCtxSetCurrent": (Handle,),
    "cuMemAlloc_v2": (ctypes.POINTER(Pointer), Size),
    "cuMemFree_v2": (Pointer,),
    "cuMemcpyHtoDAsync_v2": (Pointer, Handle, Size, Handle),
    "cuMemcpyDtoHAsync_v2": (Handle, Pointer, Size, Handle),
    "cuStreamCreate": (ctypes.POINTER(Handle), ctypes.c_uint),
    "cuStreamSynchronize": (Handle,),
    "cuGetErrorString": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
}


class Gpu:
    """The first GPU that CUDA_VISIBLE_DEVICES leaves; ModelError where there is none, MemoryError where its memory is
    full, RuntimeError for all else that the driver says."""

    def __init__(self) -> None:
        try:
            self._driver = ctypes.CDLL(LIBRARY)
            for name, kinds in SIGNATURES.items():
                getattr(self._driver, name).argtypes = kinds
        except (OSError, AttributeError) as error:
            raise ModelError(f"{LIBRARY} can't be used: {error}; install NVIDIA's driver") from None
        found = ctypes.c_int()
        try:
            self._call("cuInit", 0)
            self._call("cuDeviceGet", ctypes.byref(found), 0)
        except RuntimeError as error:
            raise ModelError(f"no GPU that CUDA can use: {error}") from None
        self._device = found.value
        self._context = Handle()

    @property
    def name(self) -> str:
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, len(text), self._device)
        return text.value.decode(errors="replace")

    def use(self) -> None:
        """Makes the GPU that of the calling thread: each thread needs it before anything below."""
        if not self._context:
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self._call("cuCtxSetCurrent", self._context)

    def stream(self) -> int:
        """A queue of work in order."""
        found = Handle()
        self._call("cuStreamCreate", ctypes.byref(found), 0)
        return found.value or 0

    def allocate(self, size: int) -> int:
        """The address of so many bytes."""
        found = Pointer()
        self._call("cuMemAlloc_v2", ctypes.byref(found), size)
        return found.value

    def free(self, address: int) -> None:
        self._driver.cuMemFree_v2(address)  # at the end: nobody hears an error

    def send(self, address: int, array: Raw, stream: int) -> None:
        """Copies a contiguous array to the GPU; it must live until `wait`."""
        self._call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, stream)

    def fetch(self, array: Raw, address: int, stream: int) -> None:
        """Copies into a contiguous array, which holds it after `wait`."""
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, stream)

    def wait(self, stream: int) -> None:
        self._call("cuStreamSynchronize", stream)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code == OUT_OF_MEMORY:
            raise MemoryError
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(text))
            raise RuntimeError(f"{name}: {(text.value or b'unknown error').decode(errors='replace')} ({code})")
