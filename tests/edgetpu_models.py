"""Hand-made .tflite files of any operators, sources and compiled ones, for the tests of the Edge TPU part."""

from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

IDENTIFIER = b"TFL3"


class Net:
    """A graph that grows operator by operator; tensors are known by their number."""

    def __init__(self):
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs, self.graph.outputs = [], []
        self.model.subgraphs = [self.graph]

    def tensor(self, shape, dtype: str = "int8", data=None, grid: tuple[float, int] | None = None) -> int:
        """A tensor; data: of a constant; grid: scale and zero point."""
        tensor = schema.TensorT()
        tensor.name = f"t{len(self.graph.tensors)}".encode()
        tensor.type, tensor.shape = getattr(schema.TensorType, dtype.upper()), list(shape)
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.broadcast_to(np.array(data, dtype), shape).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        if grid is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [grid[0]], [grid[1]]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def op(self, kind: str, inputs: list[int], outputs: list[int], custom: bytes | None = None, **options) -> None:
        """One operator; options by the names of the schema (fusedActivationFunction=1). `custom`: its own options."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind, schema.BuiltinOperator.CUSTOM)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        if code.builtinCode == schema.BuiltinOperator.CUSTOM:
            code.customCode = kind.encode()
        self.model.operatorCodes.append(code)
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = len(self.model.operatorCodes) - 1, inputs, outputs
        if options:
            name = OPTIONS[kind]
            op.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            op.builtinOptions = getattr(schema, f"{name}T")()
            for key, value in options.items():
                setattr(op.builtinOptions, key, value)
        if custom is not None:
            op.customOptions = np.frombuffer(custom, np.uint8)
        self.graph.operators.append(op)

    def write(self, path: Path, outside: bool = False) -> Path:
        """Writes the file; `outside`: with the constants behind the flatbuffer, as ai-edge-quantizer writes them."""
        if not outside:
            path.write_bytes(self._packed())
            return path
        held = [(b, bytes(b.data)) for b in self.model.buffers if b.data is not None]
        self._place(held, 2**32)  # any place: all take the same room
        self._place(held, len(self._packed()))
        path.write_bytes(self._packed() + b"".join(data for _, data in held))
        return path

    def _packed(self) -> bytes:
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())

    @staticmethod
    def _place(held, start: int) -> None:
        for buffer, data in held:
            buffer.data, buffer.offset, buffer.size = None, start, len(data)
            start += len(data)


OPTIONS = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MUL": "MulOptions",
    "PACK": "PackOptions",
    "REDUCE_MIN": "ReducerOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
}


def convolutions(count: int = 2, side: int = 8) -> Net:
    """3x3 convolutions one after the other, [1, side, side, 4] each."""
    net = Net()
    last = net.tensor([1, side, side, 4])
    net.graph.inputs = [last]
    for _ in range(count):
        inputs = [last, net.tensor([4, 3, 3, 4], "int8", 3), net.tensor([4], "int32", 7)]
        last = net.tensor([1, side, side, 4])
        net.op("CONV_2D", inputs, [last])
    net.graph.outputs = [last]
    return net


def package(cached: int = 300, streamed: int = 0, runtime: int = 14, stand_alone: bool = False) -> bytes:
    """The options of an `edgetpu-custom-op`, with the layout of libedgetpu's executable.fbs."""
    blobs = [_executable(0, cached)] if stand_alone else [_executable(2, streamed), _executable(1, cached)]
    builder = flatbuffers.Builder(1024)
    offsets = [builder.CreateByteVector(blob) for blob in blobs]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    executables = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, executables, 0)
    builder.Finish(builder.EndObject())
    multi = bytes(builder.Output())
    builder = flatbuffers.Builder(1024)
    inner, version = builder.CreateByteVector(multi), builder.CreateString("cl/1")
    builder.StartObject(9)
    builder.PrependInt32Slot(0, runtime, 0)
    builder.PrependUOffsetTRelativeSlot(1, inner, 0)
    builder.PrependUOffsetTRelativeSlot(4, version, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"DWN1")
    options = flexbuffers.Builder()
    with options.Map():
        options.Int("1", 0)
        options.Key("4")
        options._WriteBlob(bytes(builder.Output()), append_zero=True, type_=flexbuffers.Type.STRING)
    return bytes(options.Finish())


def _executable(kind: int, parameters: int) -> bytes:
    builder = flatbuffers.Builder(1024)
    data = builder.CreateByteVector(bytes(parameters))
    builder.StartObject(14)
    builder.PrependUOffsetTRelativeSlot(6, data, 0)
    builder.PrependInt16Slot(13, kind, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def compiled(*packages: bytes) -> Net:
    """A compiled file: the packages, one after the other, and a SOFTMAX left on the CPU."""
    net = Net()
    last = net.tensor([1, 10])
    net.graph.inputs = [last]
    for content in packages:
        inputs, last = [last], net.tensor([1, 10])
        net.op("edgetpu-custom-op", inputs, [last], custom=content)
    left = net.tensor([1, 10])
    net.op("SOFTMAX", [last], [left])
    net.graph.outputs = [left]
    return net
