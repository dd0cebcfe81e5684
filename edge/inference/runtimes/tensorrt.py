"""TensorRT: `trtexec` builds an engine of the ONNX file on the device itself, and the package `tensorrt` runs it.

An engine fits one version of TensorRT and one kind of GPU, so it stays in the cache of the device that built it."""

from __future__ import annotations

import re
import subprocess
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import edge.inference.runtimes.onnx as onnx_format
from edge.arrays import Raw
from edge.errors import LONGEST, ModelError
from edge.inference.cuda import LIBRARY, Gpu
from edge.inference.formats import Accelerator, Format, Library, Tensor, describe

ACCELERATOR = Accelerator(
    LIBRARY,
    "NVIDIA's driver, and trtexec (sudo apt install libnvinfer-bin; a Jetson: sudo apt install nvidia-jetpack)",
    program="trtexec",
    folder="/usr/src/tensorrt/bin",  # of NVIDIA's packages
)
OLDEST = (8, 5)  # which has tensors by name; a choice of the API
SKIP_INFERENCE = (8, 6)  # so called from then on
# without --noTF32 a float32 engine multiplies numbers of 10 bits; int8 is what the file's Q/DQ pairs say
FLAGS = {"float32": ("--noTF32",), "float16": ("--fp16",), "int8": ("--int8",)}
RUNNING = re.compile(r"\[TensorRT v(\d+)\]")
ERROR = re.compile(r"^(?:\[[^]]*\] )?\[E\] (?:\[TRT\] )?(.+)$", re.MULTILINE)
MEMORY = re.compile(r"out of memory|outofmemory|insufficient memory", re.IGNORECASE)
KILLED = (-9, 137)  # by the kernel, which had no memory left
Version = tuple[int, ...]


class TensorRT:
    """An engine, its input and output in the memory of the GPU; CPU threads play no part."""

    def __init__(self, library: ModuleType, path: Path, threads: int):
        self._gpu = gpu = Gpu()
        gpu.use()
        log = _logger(library)
        self._library = library.Runtime(log)  # must live as long as the engine
        engine = self._library.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            said = " ".join(log.said.split())[:LONGEST] or "no reason given"
            raise ModelError(f"{path}: TensorRT {library.__version__} can't run this engine: {said}; remove it, and it "
                             "is built again")  # fmt: skip
        self._context = engine.create_execution_context()
        if self._context is None:
            raise ModelError(f"{path}: no execution context: {log.said or 'not enough memory of the GPU'}")
        self._engine, self._stream = engine, gpu.stream()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        is_input = [engine.get_tensor_mode(name) == library.TensorIOMode.INPUT for name in names]
        found = [_tensor(library, engine, name) for name in names]
        self.inputs = [tensor for tensor, given in zip(found, is_input) if given]  # noqa: B905 (as below)
        self.outputs = [tensor for tensor, given in zip(found, is_input) if not given]  # noqa: B905
        self._places = {tensor.name: self._place(tensor, path) for tensor in found}
        self.details = {**describe(library, FORMAT.name), "gpu": gpu.name, "engine_bytes": str(path.stat().st_size)}

    def invoke(self, feeds: list[Raw], wanted: list[int]) -> list[Raw]:
        import numpy as np  # the table of formats is read without it, too

        self._gpu.use()
        for tensor, feed in zip(self.inputs, feeds):  # noqa: B905 (strict needs Python 3.10)
            self._gpu.send(self._places[tensor.name], feed, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise RuntimeError("the engine did not run")
        out: list[Raw] = []
        for i in wanted:
            tensor = self.outputs[i]
            out.append(np.empty(tensor.shape, tensor.dtype))  # type: ignore[arg-type]
            self._gpu.fetch(out[-1], self._places[tensor.name], self._stream)
        self._gpu.wait(self._stream)
        return out

    def _place(self, tensor: Tensor, path: Path) -> int:
        """The address on the GPU that the engine reads or writes this tensor at."""
        import numpy as np

        sides = [side if isinstance(side, int) else 0 for side in tensor.shape]
        if not all(side > 0 for side in sides):
            raise ModelError(f"{path}: {tensor.name} has no fixed shape: {list(tensor.shape)}; export the model again")
        address = self._gpu.allocate(int(np.prod(sides)) * np.dtype(tensor.dtype).itemsize)
        weakref.finalize(self, self._gpu.free, address)
        self._context.set_tensor_address(tensor.name, address)
        return address

    @staticmethod
    def maker(library: ModuleType, precision: str) -> str:
        """Version of trtexec, GPU and flags; ModelError when trtexec is missing or of another version than `tensorrt`,
        which could not run its engines."""
        program, version = _program()
        ours = tuple(int(part) for part in re.findall(r"\d+", library.__version__)[:3])
        if ours != version:
            raise ModelError(f"{program} is of TensorRT {_text(version)}, but the Python package tensorrt is "
                             f"{library.__version__}: install the same version of both")  # fmt: skip
        return f"trtexec {_text(version)} {Gpu().name} {' '.join(_flags(version, precision))}"

    @staticmethod
    def build(library: ModuleType, source: Path, target: Path, precision: str) -> None:
        """Has trtexec write an engine of the ONNX file, which takes up to minutes; ModelError with what it said."""
        if precision == "int8" and b"QuantizeLinear" not in source.read_bytes():
            raise ModelError(f"{source}: int8 without calibration: the file has no Q/DQ pairs, whose ranges an engine "
                             "needs; build a variant of format tensorrt in int8")  # fmt: skip
        program, version = _program()
        command = [program, f"--onnx={source}", f"--saveEngine={target}", *_flags(version, precision)]
        code, said = _run(command)
        if code == 0 and target.is_file() and target.stat().st_size:
            return
        errors = ERROR.findall(said)
        if code in KILLED or any(MEMORY.search(line) for line in errors):
            raise ModelError(f"{source}: trtexec ran out of memory; close what else runs on this device, add swap, or "
                             "build a smaller model")  # fmt: skip
        lines = errors or said.strip().splitlines()[-1:] or [f"it ended with code {code}"]
        raise ModelError(f"{source}: trtexec can't build an engine: {lines[0][:LONGEST]}")


def _program() -> tuple[str, Version]:
    """Where trtexec is, and its version, which its first line of help says (10.3.0 as v100300, 8.6.1 as v8601)."""
    program = ACCELERATOR.found_program()
    if program is None:
        raise ModelError(f"no trtexec in PATH or {ACCELERATOR.folder} to build an engine: {ACCELERATOR.install}")
    found = RUNNING.search(_run([program, "--help"])[1])
    if found is None:
        raise ModelError(f"{program}: does not say its version; install TensorRT {_text(OLDEST)} or newer")
    number, base = int(found[1]), 10_000 if len(found[1]) > 4 else 1000
    version = (number // base, number % base // 100, number % 100)
    if version < OLDEST:
        raise ModelError(f"{program} is of TensorRT {_text(version)}; install {_text(OLDEST)} or newer")
    return program, version


def _run(command: list[str]) -> tuple[int, str]:
    """Exit code and output of trtexec."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
    except OSError as error:
        raise ModelError(f"{command[0]}: can't be run: {error.strerror}") from None
    return done.returncode, done.stdout.decode(errors="replace")


def _flags(version: Version, precision: str) -> tuple[str, ...]:
    return (*FLAGS[precision], "--skipInference" if version >= SKIP_INFERENCE else "--buildOnly")


def _text(version: Version) -> str:
    return ".".join(map(str, version))


def _logger(library: ModuleType) -> Any:
    """Keeps the first error, which names the cause; TensorRT would print it."""

    class Log(library.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.said = ""

        def log(self, severity: Any, msg: str) -> None:
            if severity in (library.ILogger.Severity.INTERNAL_ERROR, library.ILogger.Severity.ERROR):
                self.said = self.said or msg

    return Log()


def _tensor(library: ModuleType, engine: Any, name: str) -> Tensor:
    import numpy as np

    shape = tuple(side if side >= 0 else None for side in engine.get_tensor_shape(name))
    return Tensor(name, shape, np.dtype(library.nptype(engine.get_tensor_dtype(name))).name)


FORMAT = Format(
    name="tensorrt",
    title="TensorRT",
    files=onnx_format.FORMAT.files,
    runtime=TensorRT,
    libraries=(Library("tensorrt", "tensorrt"),),
    layout="nchw",
    integer_io=False,
    precisions=tuple(FLAGS),
    stored_as="onnx",
    accelerator=ACCELERATOR,
    built_on_device=True,
)
