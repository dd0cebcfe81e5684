"""What runs a model file. Each runtime is one class in RUNTIMES; the heavy library is imported when it is needed."""

from __future__ import annotations

import importlib

import numpy as np

from edge.inference.modelfile import ModelError, ModelInfo


def open_runtime(info: ModelInfo, threads: int = 1, delegate: str | None = None):
    """The model ready to run on `threads` CPU threads, a TFLite model on the accelerator of a delegate ("edgetpu") on
    request; ModelError when a library is missing or the file differs from what its model.json says."""
    if threads < 1:
        raise ModelError(f"threads = {threads}: must be at least 1")
    if delegate is None:
        return RUNTIMES[info.format](info, threads)
    if info.format != "tflite" or delegate not in DELEGATES:
        raise ModelError(f"{info.path}: no delegate {delegate!r} for {info.format}; tflite has {', '.join(DELEGATES)}")
    return TFLite(info, threads, delegate)


class Runtime:
    """What all runtimes share: a picture becomes a tensor, raw outputs become a float map."""

    info: ModelInfo
    details: dict  # name, version and delegate of the library, for reports

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The tensor of a resized picture, uint8 [height, width, 3] RGB: int8 is pixel - 128, float32 is in [0, 1]."""
        spec = self.info.input
        if image.dtype != np.uint8 or image.shape != (spec.height, spec.width, 3):
            raise ValueError(
                f"image is {image.dtype} {list(image.shape)}: must be uint8 [{spec.height}, {spec.width}, 3]"
            )
        if spec.dtype == "int8":
            tensor = (image ^ np.uint8(128)).view(np.int8)
        else:
            tensor = image.astype(np.float32) * np.float32(spec.scale)
        if spec.layout == "nchw":
            tensor = tensor.transpose(2, 0, 1)
        return np.ascontiguousarray(tensor[None])

    def invoke(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The raw outputs for a prepared tensor: the map, then the score where the model has one."""
        raise NotImplementedError

    def finish(self, raw: list[np.ndarray]) -> tuple[np.ndarray, float | None]:
        """The map as float32 [h, w], dequantized, and the model's own score or None."""
        spec = self.info.output
        map = raw[0].reshape(spec.height, spec.width)
        if spec.dtype == "int8":
            map = (map.astype(np.int32) - spec.zero_point) * np.float32(spec.scale)
        return map.astype(np.float32), float(raw[1].reshape(-1)[0]) if len(raw) > 1 else None

    def run(self, image: np.ndarray) -> tuple[np.ndarray, float | None]:
        """From a resized picture to its map and score."""
        return self.finish(self.invoke(self.prepare(image)))

    def _check_input(self, shape, dtype: str) -> None:
        spec = self.info.input
        nhwc = (1, spec.height, spec.width, spec.channels)
        self._check(
            "input", shape, dtype, nhwc if spec.layout == "nhwc" else (1, spec.channels, *nhwc[1:3]), spec.dtype
        )

    def _check_output(self, shape, dtype: str) -> None:
        spec = self.info.output
        map = (1, spec.height, spec.width)
        self._check("output", shape, dtype, (*map, 1) if len(shape) == 4 and shape[3] == 1 else (1, *map), spec.dtype)

    def _check(self, what: str, shape, dtype: str, expected, expected_dtype: str) -> None:
        if tuple(shape) != expected or dtype != expected_dtype:
            found, declared = f"{dtype} {list(shape)}", f"{expected_dtype} {list(expected)}"
            raise ModelError(f"{self.info.path}: {what} is {found}, but model.json says {declared}")

    def _order(self, names: list[str], shapes: list) -> list[int]:
        """The indices of the map and, where there is one, of the score; found by name, else by the shape of the map."""
        spec = self.info.output
        sides = ((1, spec.height, spec.width, 1), (1, 1, spec.height, spec.width))
        maps = [i for i, name in enumerate(names) if name == spec.name]
        maps = maps or [i for i, shape in enumerate(shapes) if tuple(shape) in sides]
        if not maps:
            found = ", ".join(f"{n} {list(s)}" for n, s in zip(names, shapes))  # noqa: B905 (strict needs Python 3.10)
            raise ModelError(
                f"{self.info.path}: no output {spec.name!r} of {spec.height} x {spec.width}; it has {found}"
            )
        scores = [i for i, shape in enumerate(shapes) if i != maps[0] and int(np.prod(shape)) == 1]
        if self.info.score.rule == "output" and not scores:
            raise ModelError(f"{self.info.path}: no score output, but model.json has score.rule = 'output'")
        return maps[:1] + scores[:1]


class TFLite(Runtime):
    """A TFLite file on the CPU with ai-edge-litert, else tflite-runtime (32-bit Raspberry Pi OS)."""

    def __init__(self, info: ModelInfo, threads: int, delegate: str | None = None):
        self.info = info
        interpreter, package = self.library()
        path = str(info.compiled(delegate))
        more = {} if delegate is None else {"experimental_delegates": [self._load_delegate(interpreter, delegate)]}
        try:
            self._interpreter = interpreter.Interpreter(model_path=path, num_threads=threads, **more)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{info.path}: not a model that {package.__name__} runs: {_one_line(error)}") from None
        source, *_ = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        order = self._order([o["name"] for o in outputs], [o["shape"].tolist() for o in outputs])
        target = outputs[order[0]]
        self._check_input(source["shape"].tolist(), np.dtype(source["dtype"]).name)
        self._check_output(target["shape"].tolist(), np.dtype(target["dtype"]).name)
        for what, details, spec in (("input", source, info.input), ("output", target, info.output)):
            self._check_quantization(what, details["quantization"], spec)
        self._input = source["index"]
        self._outputs = [outputs[i]["index"] for i in order]
        self.details = {
            "name": package.__name__,
            "version": getattr(package, "__version__", "unknown"),
            "delegate": delegate or self._delegate(),
        }

    @staticmethod
    def library():
        """The interpreter module and its package."""
        for name in ("ai_edge_litert", "tflite_runtime"):
            try:
                return importlib.import_module(f"{name}.interpreter"), importlib.import_module(name)
            except ModuleNotFoundError:
                continue
        raise ModelError("no TFLite runtime: pip install ai-edge-litert (32-bit Raspberry Pi OS: tflite-runtime)")

    @staticmethod
    def _load_delegate(interpreter, name: str):
        try:
            return interpreter.load_delegate(DELEGATES[name])
        except (OSError, ValueError) as error:
            raise ModelError(f"{name}: {DELEGATES[name]} can't be used: {_one_line(error) or 'no device'}") from None

    def invoke(self, tensor: np.ndarray) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input, tensor)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]

    def _delegate(self) -> str | None:
        """The CPU delegate that took over operators: no other than XNNPACK is on by default."""
        operators = getattr(self._interpreter, "_get_ops_details", list)()
        return "XNNPACK" if any(o["op_name"] == "DELEGATE" for o in operators) else None

    def _check_quantization(self, what: str, found: tuple[float, int], spec) -> None:
        if spec.dtype == "int8" and not (np.isclose(found[0], spec.scale, rtol=1e-5) and found[1] == spec.zero_point):
            raise ModelError(
                f"{self.info.path}: {what} has scale {found[0]:.8g} and zero point {found[1]}, "
                f"but model.json says {spec.scale:.8g} and {spec.zero_point}"
            )


class ONNX(Runtime):
    """An ONNX file on the CPU with onnxruntime."""

    def __init__(self, info: ModelInfo, threads: int):
        self.info = info
        library = self.library()
        options = library.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        # int8 on x86 without VNNI: exact sums, where the default kernels overflow without a word
        options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = library.InferenceSession(str(info.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's errors share no public base class
            raise ModelError(f"{info.path}: not a model that onnxruntime runs: {_one_line(error)}") from None
        source, *_ = self._session.get_inputs()
        outputs = self._session.get_outputs()
        order = self._order([o.name for o in outputs], [[_side(s) for s in o.shape] for o in outputs])
        self._check_input(source.shape, _dtype(source.type))
        self._check_output(outputs[order[0]].shape, _dtype(outputs[order[0]].type))
        self._input = source.name
        self._outputs = [outputs[i].name for i in order]
        self.details = {"name": "onnxruntime", "version": library.__version__, "delegate": "CPUExecutionProvider"}

    @staticmethod
    def library():
        """The onnxruntime module."""
        try:
            return importlib.import_module("onnxruntime")
        except ModuleNotFoundError:
            raise ModelError("no ONNX runtime: pip install onnxruntime") from None

    def invoke(self, tensor: np.ndarray) -> list[np.ndarray]:
        return self._session.run(self._outputs, {self._input: tensor})


class OpenVINO(Runtime):
    """An OpenVINO IR (model.xml and model.bin) on the CPU."""

    def __init__(self, info: ModelInfo, threads: int):
        self.info = info
        library = self.library()
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        try:
            model = library.Core().compile_model(str(info.path), "CPU", settings)
        except RuntimeError as error:
            raise ModelError(f"{info.path}: not a model that OpenVINO runs: {_one_line(error)}") from None
        source, outputs = model.inputs[0], model.outputs
        shapes = [list(o.shape) for o in outputs]
        order = self._order([o.any_name for o in outputs], shapes)
        self._check_input(list(source.shape), np.dtype(source.element_type.to_dtype()).name)
        self._check_output(shapes[order[0]], np.dtype(outputs[order[0]].element_type.to_dtype()).name)
        self._request, self._outputs = model.create_infer_request(), order
        self.details = {"name": "openvino", "version": library.__version__, "delegate": "CPU"}

    @staticmethod
    def library():
        """The openvino module."""
        try:
            return importlib.import_module("openvino")
        except ModuleNotFoundError:
            raise ModelError("no OpenVINO runtime: pip install openvino") from None

    def invoke(self, tensor: np.ndarray) -> list[np.ndarray]:
        self._request.infer({0: tensor})
        return [self._request.get_output_tensor(i).data.copy() for i in self._outputs]


def _side(side) -> int:
    return side if isinstance(side, int) else 0  # a named or unknown side matches nothing


def _dtype(name: str) -> str:
    """From "tensor(float)" to the name that model.json uses."""
    name = name[len("tensor(") : -1]
    return "float32" if name == "float" else name


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


DELEGATES = {"edgetpu": "libedgetpu.so.1"}

# One class per format; the same names as in edge.inference.modelfile.
RUNTIMES = {"tflite": TFLite, "onnx": ONNX, "openvino": OpenVINO}
