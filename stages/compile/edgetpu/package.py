"""Reads what the Edge TPU compiler wrote: the DarwiNN package inside each `edgetpu-custom-op`, and what is left.

The operator's options are a FlexBuffers map whose key "4" holds the package, a FlatBuffer of root type `Package` in
libedgetpu's executable/executable.fbs; the numbers of fields below are those of that schema.
"""

from dataclasses import dataclass
from pathlib import Path

from flatbuffers import flexbuffers, number_types
from flatbuffers.table import Table

from edge.errors import UserError
from stages.compile.edgetpu.graph import Op, read

CUSTOM_OP = "edgetpu-custom-op"
IDENTIFIER = b"DWN1"
PACKAGE_KEY = "4"
MIN_RUNTIME_VERSION, SERIALIZED_MULTI_EXECUTABLE, COMPILER_VERSION = 0, 1, 4  # fields of Package
SERIALIZED_EXECUTABLES = 0  # field of MultiExecutable
PARAMETERS, EXECUTABLE_TYPE = 6, 13  # fields of Executable
PARAMETER_CACHING = 1  # ExecutableType; 0 is STAND_ALONE, 2 is EXECUTION_ONLY


@dataclass(frozen=True)
class Package:
    """One compiled subgraph: parameter bytes that stay on the chip and that are sent again for every inference."""

    min_runtime_version: int
    compiler: str
    on_chip_bytes: int
    streamed_bytes: int


@dataclass(frozen=True)
class Compiled:
    """A compiled file: its subgraphs on the Edge TPU and the operators left on the CPU."""

    packages: list[Package]
    cpu: list[Op]

    @property
    def min_runtime_version(self) -> int:
        return max(p.min_runtime_version for p in self.packages)

    @property
    def on_chip_bytes(self) -> int:
        return sum(p.on_chip_bytes for p in self.packages)

    @property
    def streamed_bytes(self) -> int:
        return sum(p.streamed_bytes for p in self.packages)


def is_compiled(ops: list[Op]) -> bool:
    return any(op.kind == CUSTOM_OP for op in ops)


def read_compiled(path: Path) -> Compiled:
    """What a compiled file holds; UserError where it is not compiled or damaged."""
    ops = read(path)
    if not is_compiled(ops):
        raise UserError(f"{path}: not compiled for the Edge TPU (no {CUSTOM_OP} in it)")
    try:
        packages = [_package(op.custom_options) for op in ops if op.kind == CUSTOM_OP]
    except Exception as error:  # a damaged flatbuffer raises whatever its broken offsets lead to
        raise UserError(f"{path}: damaged Edge TPU package ({type(error).__name__}); compile it again") from None
    return Compiled(packages, [op for op in ops if op.kind != CUSTOM_OP])


def _package(options: bytes) -> Package:
    entry = flexbuffers.GetRoot(options).AsMap[PACKAGE_KEY]
    content = bytes(entry.AsStringBytes)
    if content[4:8] != IDENTIFIER:
        raise ValueError("no DWN1 header")
    table = _root(content)
    executables = _root(_bytes(table, SERIALIZED_MULTI_EXECUTABLE))
    on_chip = streamed = 0
    for blob in _blobs(executables, SERIALIZED_EXECUTABLES):
        executable = _root(blob)
        size = len(_bytes(executable, PARAMETERS))
        # the runtime loads a caching executable once; what the others carry goes to the chip with every inference
        if _number(executable, EXECUTABLE_TYPE, number_types.Int16Flags) == PARAMETER_CACHING:
            on_chip += size
        else:
            streamed += size
    return Package(
        min_runtime_version=_number(table, MIN_RUNTIME_VERSION, number_types.Int32Flags),
        compiler=_bytes(table, COMPILER_VERSION).decode(),
        on_chip_bytes=on_chip,
        streamed_bytes=streamed,
    )


def _root(content: bytes) -> Table:
    return Table(content, int.from_bytes(content[:4], "little"))


def _number(table: Table, field: int, flags) -> int:
    return table.GetSlot(4 + 2 * field, 0, flags)


def _bytes(table: Table, field: int) -> bytes:
    """A field of bytes or text, empty where it is left out."""
    offset = table.Offset(4 + 2 * field)
    return _part(table.Bytes, table.Vector(offset), table.VectorLen(offset)) if offset else b""


def _blobs(table: Table, field: int) -> list[bytes]:
    """A field that is a list of bytes."""
    offset = table.Offset(4 + 2 * field)
    start, count = table.Vector(offset), table.VectorLen(offset)
    _part(table.Bytes, start, 4 * count)
    places = [table.Indirect(start + 4 * i) for i in range(count)]
    return [_part(table.Bytes, p + 4, table.Get(number_types.UOffsetTFlags, p)) for p in places]


def _part(content: bytes, start: int, size: int) -> bytes:
    if not 0 <= start <= start + size <= len(content):
        raise IndexError("a field ends after the package")
    return content[start : start + size]
