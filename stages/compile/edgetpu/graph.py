"""Reads operators and tensors of a .tflite file, source or compiled; moves constants into its flatbuffer."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import SimpleNamespace

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.errors import UserError

OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
TYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
NUMPY = {"int8": np.int8, "uint8": np.uint8, "int16": np.int16, "int32": np.int32, "int64": np.int64}
IDENTIFIER = b"TFL3"


@dataclass(frozen=True)
class Tensor:
    """One tensor; `data` holds the bytes of a constant, else None. `outside`: they lie behind the flatbuffer."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | None
    zero_point: int | None
    outside: bool = False

    @property
    def constant(self) -> bool:
        return self.data is not None

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    def values(self) -> np.ndarray:
        """The integers of a constant, flat; ValueError where it is no constant or no integer tensor."""
        if self.data is None or self.dtype not in NUMPY:
            raise ValueError(f"{self.name} is no constant of integers")
        return np.frombuffer(self.data, NUMPY[self.dtype])


@dataclass(frozen=True)
class Op:
    """One operator: its TFLite name (that of a custom operator is its own), options, and tensors (None: left out)."""

    index: int
    kind: str
    custom: bool
    options: object
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    custom_options: bytes
    sources: tuple[int, ...]  # the operators that make its inputs

    @property
    def activations(self) -> list[Tensor]:
        """What flows through: the inputs that are no constants, and the outputs."""
        return [t for t in self.inputs if t is not None and not t.constant] + list(self.outputs)

    def input(self, index: int) -> Tensor | None:
        """An input by its place, None where the operator has none there."""
        return self.inputs[index] if index < len(self.inputs) else None

    def required(self, index: int) -> Tensor:
        """An input that the operator can't do without; ValueError where it has none there."""
        if (tensor := self.input(index)) is None:
            raise ValueError(f"{self.kind} has no input {index}")
        return tensor


def read(path: Path) -> list[Op]:
    """The operators of the file's main graph in their order; UserError where it is no .tflite file or is damaged."""
    content = _content(path)
    try:
        ops = _operators(schema.ModelT.InitFromPackedBuf(content, 0), content)
    except Exception as error:  # a damaged flatbuffer raises whatever its broken offsets lead to
        raise UserError(f"{path}: damaged .tflite file ({type(error).__name__}); get it again") from None
    if not ops:
        raise UserError(f"{path}: a .tflite file without operators")
    return ops


def write_inline(path: Path, target: Path) -> None:
    """Copies a .tflite file that `read` accepts, every constant inside the flatbuffer.

    ai-edge-quantizer puts those of models above 256 KiB behind it, where the Edge TPU compiler does not look.
    """
    content = _content(path)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(_outside(buffer, content), np.uint8)
            buffer.offset = buffer.size = 0
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    Path(target).write_bytes(builder.Output())


def _content(path: Path) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None
    if content[4:8] != IDENTIFIER:
        raise UserError(f"{path}: not a .tflite file (it does not begin with a TFL3 header)")
    return content


def _outside(buffer, content: bytes) -> bytes:
    if buffer.offset + buffer.size > len(content):
        raise IndexError("a constant ends after the file")
    return content[buffer.offset : buffer.offset + buffer.size]


def _operators(model, content: bytes) -> list[Op]:
    graph = model.subgraphs[0]
    tensors = [_tensor(t, _at(model.buffers, t.buffer), content) for t in graph.tensors]
    ops: list[Op] = []
    maker: dict[int, int] = {}  # tensor: the operator that makes it
    for index, op in enumerate(graph.operators):
        code = model.operatorCodes[op.opcodeIndex]
        kind = OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
        inputs = [int(i) for i in op.inputs] if op.inputs is not None else []
        outputs = [_at(tensors, int(i)) for i in op.outputs]
        blob = b"" if op.customOptions is None else bytes(op.customOptions)
        ops.append(
            Op(
                index=index,
                kind=code.customCode.decode() if kind == "CUSTOM" else kind,
                custom=kind == "CUSTOM",
                options=op.builtinOptions or SimpleNamespace(),
                inputs=tuple(None if i == -1 else _at(tensors, i) for i in inputs),
                outputs=tuple(outputs),
                custom_options=blob,
                sources=tuple(sorted({maker[i] for i in inputs if i in maker})),
            )
        )
        maker |= {int(i): index for i in op.outputs}
    return ops


def _tensor(tensor, buffer, content: bytes) -> Tensor:
    points = tensor.quantization.zeroPoint if tensor.quantization else None
    data, outside = buffer.data, buffer.offset > 1
    if outside:
        data = _outside(buffer, content)
    return Tensor(
        name=(tensor.name or b"").decode(),
        dtype=TYPES[tensor.type],
        shape=() if tensor.shape is None else tuple(int(d) for d in tensor.shape),
        data=None if data is None or not len(data) else bytes(data),
        zero_point=None if points is None or not len(points) else int(points[0]),
        outside=outside,
    )


def _at(items, index: int):
    if not 0 <= index < len(items):
        raise IndexError(index)
    return items[index]
