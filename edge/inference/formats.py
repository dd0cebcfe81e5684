"""What the project has to know about a format of model files; each module of `edge.inference.runtimes` fills in one.

Standard library only: a device without numpy can still be asked what it has."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast

from edge.arrays import Raw
from edge.errors import ModelError, UserError, reason
from edge.inference.names import taken

KEEP_DAYS = 30  # as the folders of hardware_runners on a device; a choice
INPUT_STEP = 1 / 255  # a sample's byte stands for [0, 1]; a uint8 tensor holds the byte, an int8 one the byte - 128


class Tensor(NamedTuple):
    """A tensor as a runtime finds it in the file; `scale` is None where the file states no quantization."""

    name: str
    shape: tuple[int | str | None, ...]  # a side that is not fixed is a name or None
    dtype: str  # as numpy names it
    scale: float | None = None
    zero_point: int = 0


class Runtime(Protocol):
    """An opened model file: `invoke` takes an array for each input and gives those of the outputs in `wanted`."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    details: dict[str, str | None]  # name, version and delegate, for reports

    def __init__(self, library: ModuleType, path: Path, threads: int): ...

    def invoke(self, feeds: list[Raw], wanted: list[int]) -> list[Raw]: ...


class BuiltRuntime(Runtime, Protocol):
    """One whose file `build` makes on the device, of a model in float32, float16 or int8; `maker` names all that the
    result depends on besides the model: versions, the device, options."""

    @staticmethod
    def maker(library: ModuleType, precision: str) -> str: ...

    @staticmethod
    def build(library: ModuleType, source: Path, target: Path, precision: str) -> None: ...


@dataclass(frozen=True)
class Library:
    """A Python package that runs a format: its name for pip, and the module to import."""

    pip: str
    module: str
    not_on: tuple[str, ...] = ()  # processors (as `platform.machine()` starts) that it has no wheel for


@dataclass(frozen=True)
class Accelerator:
    """What a format needs beside the Python package: a shared library, perhaps a program (in PATH or in `folder`), and
    how they get onto the device."""

    library: str
    install: str
    program: str = ""
    folder: str = ""

    def found_program(self) -> str | None:
        """Where the program lies; None where it is not installed."""
        return shutil.which(self.program) or shutil.which(self.program, path=self.folder)


@dataclass(frozen=True)
class Format:
    """One format; `runtime(library, path, threads)` opens a file."""

    name: str  # in params.yaml; of an accelerator also as delegate and in an inventory file
    title: str
    files: tuple[str, ...]  # what a model folder holds; the first one is the model file
    runtime: type[Runtime]
    libraries: tuple[Library, ...]  # in the order in which they are tried
    layout: str  # of the tensors: nhwc | nchw
    integer_io: bool  # an int8 model takes and returns int8, not float32
    byte_input: bool = False  # the file takes the bytes of the picture as they are; its outputs are float32
    precisions: tuple[str, ...] = ("float32", "int8")
    stored_as: str = ""  # the format in model.json, where a file compiled for an accelerator lies beside the model's
    accelerator: Accelerator | None = None
    built_on_device: bool = False  # `runtime` is a BuiltRuntime; see `built`

    def library(self) -> ModuleType:
        """The first of the libraries that is installed, imported; ModelError that says what to install."""
        for library in self.libraries:
            try:
                return importlib.import_module(library.module)
            except ModuleNotFoundError:
                continue
            except Exception as error:  # one that is installed for another Python, numpy or system
                raise ModelError(f"{library.pip} is installed but can't be imported: {reason(error)}") from None
        raise ModelError(f"no {self.title} runtime: pip install {self.pip(platform.machine())}")

    def pip(self, machine: str) -> str:
        """The package to install on a processor."""
        return next(entry.pip for entry in self.libraries if not machine.startswith(entry.not_on))

    def input_fields(self, precision: str) -> dict[str, Any]:
        """What `input` of model.json says about the tensor of a model of that precision."""
        integer = self.integer_io and precision == "int8"
        dtype = "int8" if integer else "uint8" if self.byte_input else "float32"
        return {"layout": self.layout, "scale": INPUT_STEP, "dtype": dtype, "zero_point": -128 if integer else 0}

    def open(self, path: Path, threads: int, digest: str, precision: str = "float32") -> Runtime:
        """The runtime with the file at `path`, which has this digest; ModelError when it refuses the file, whatever it
        raises: the libraries' errors share no base class. `precision` is that of a file that the device builds."""
        library = self.library()
        found = self.built(library, path, digest, precision) if self.built_on_device else path
        with taken(found) as name:
            try:
                return self.runtime(library, Path(name), threads)
            except UserError:
                raise
            except UnicodeDecodeError:
                raise ModelError(f"{found}: the name of a tensor is not UTF-8; export the model again") from None
            except Exception as error:
                runs = describe(library, None)["name"]
                raise ModelError(f"{found}: not a model that {runs} runs: {reason(error)}") from None

    def built(self, library: ModuleType, source: Path, digest: str, precision: str) -> Path:
        """The file that this device makes from a model's: once for each model and maker, and kept in
        ~/.cache/edge-vision/built as long as it is used. ModelError when it can't be made."""
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-vision" / "built"
        runtime, name = cast("type[BuiltRuntime]", self.runtime), describe(library, None)["name"]
        try:
            maker = runtime.maker(library, precision)
            path = home / f"{hashlib.sha256(f'{digest} {maker}'.encode()).hexdigest()[:32]}.{self.name}"
            if path.is_file():
                path.touch()
                return path
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            _forget(home)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                with taken(source) as readable:
                    runtime.build(library, Path(readable), temporary, precision)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        except UserError:
            raise
        except Exception as error:
            raise ModelError(f"{source}: {name} can't build a {self.title} file from it: {reason(error)}") from None
        return path


def _forget(folder: Path) -> None:
    """Removes files that nobody has used for KEEP_DAYS, among them parts that a killed build left."""
    for path in folder.iterdir():
        if path.is_file() and path.stat().st_mtime < time.time() - KEEP_DAYS * 86400:
            path.unlink(missing_ok=True)


def describe(library: ModuleType, delegate: str | None) -> dict[str, str | None]:
    """The details of a runtime: name and version of the library's package."""
    package = sys.modules[library.__name__.partition(".")[0]]
    return {
        "name": package.__name__,
        "version": getattr(package, "__version__", "unknown"),
        "delegate": delegate,
    }
