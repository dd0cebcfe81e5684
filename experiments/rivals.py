"""EfficientAD-S in the runtimes that its users have: one picture at a time on one thread, for its time alone.

RUNTIMES is a table: another one is a function and its line there. The int8 files are calibrated on noise, since the
weights are random; neither changes what is computed, and so how long it takes.
"""

import copy
import warnings
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from experiments.efficientad import SIZE, EfficientAD

Once = Callable[[], np.ndarray]  # runs the model once; its map is [1, 1, SIZE, SIZE]
CALIBRATION = 4  # pictures of noise
INPUT = "image"
PACKAGES = ("torch", "onnxruntime", "openvino")  # whose versions belong to the times


class Source:
    """The network, a picture, and the ONNX files made of it, which lie in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = EfficientAD().eval()
        self.image = torch.rand(1, 3, SIZE, SIZE, generator=generator)
        self.last = (_last(copy.deepcopy(self.model)), _last(self.image))

    @cached_property
    def onnx(self) -> Path:
        """The float file."""
        path = self.folder / "float.onnx"
        names = {"input_names": [INPUT], "output_names": ["map"]}
        with warnings.catch_warnings():  # the exporter is deprecated, the other one needs a package more
            warnings.simplefilter("ignore")
            torch.onnx.export(self.model, (self.image,), path, dynamo=False, opset_version=17, **names)
        return path

    @cached_property
    def int8(self) -> Path:
        """The file with QDQ pairs: uint8 activations and int8 weights per channel, the grids that x86 multiplies."""
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Noise(quantization.CalibrationDataReader):
            def __init__(self):
                random = np.random.default_rng(0)
                self.left = [random.random((1, 3, SIZE, SIZE), np.float32) for _ in range(CALIBRATION)]

            def get_next(self):
                return {INPUT: self.left.pop()} if self.left else None

        prepared, path = self.folder / "prepared.onnx", self.folder / "int8.onnx"
        quant_pre_process(self.onnx, prepared)
        quantization.quantize_static(
            prepared,
            path,
            Noise(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
        return path


def _last(what):
    """A tensor, or a module with its weights, in NHWC order."""
    return what.to(memory_format=torch.channels_last)


def _torch(model, image: torch.Tensor, guard=torch.inference_mode) -> Once:
    def once() -> np.ndarray:
        with guard():
            return model(image).float().numpy()

    return once


def eager(source: Source) -> Once:
    return _torch(source.model, source.image)


def channels_last(source: Source) -> Once:
    return _torch(*source.last)


def bfloat16(source: Source) -> Once:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise RuntimeError("no bfloat16 kernels for this processor")
    model, image = source.last
    return _torch(copy.deepcopy(model).bfloat16(), image.bfloat16())


def script(source: Source) -> Once:
    """TorchScript, frozen, with the passes for inference."""
    model, image = source.last
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what many deploy
        frozen = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, image)))
    return _torch(frozen, image)


def compiled(source: Source) -> Once:
    """torch.compile with frozen weights; needs a C++ compiler."""
    model, image = source.last
    return _torch(torch.compile(model, options={"freezing": True}), image, torch.no_grad)


def onnxruntime(path: Path, source: Source) -> Once:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {INPUT: source.image.numpy()}
    return lambda: session.run(None, feeds)[0]


def openvino(path: Path, source: Source, precision: str = "f32", steps: bool = False) -> Once:
    """`precision` is that of what is not int8; `steps`: int8 tensors hold steps, as in the files of `compile`."""
    from openvino import Core, convert_model

    from stages.compile.openvino_steps import in_steps

    core = Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RuntimeError("no bfloat16 kernels for this processor")
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    model = convert_model(str(path)) if steps else str(path)
    if steps and not in_steps(model):
        raise RuntimeError("no tensor became steps")
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.input_tensors[0].data[:] = source.image.numpy()  # as in edge, since handing it over takes longer
    return lambda: request.infer()[0]


EAGER = "torch, float32"
RUNTIMES: dict[str, Callable[[Source], Once]] = {
    EAGER: eager,
    "torch channels-last, float32": channels_last,
    "torch channels-last, bfloat16": bfloat16,
    "torch.jit, float32": script,
    "torch.compile, float32": compiled,
    "onnxruntime, float32": lambda source: onnxruntime(source.onnx, source),
    "onnxruntime, int8": lambda source: onnxruntime(source.int8, source),
    "OpenVINO, float32": lambda source: openvino(source.onnx, source),
    "OpenVINO, bfloat16": lambda source: openvino(source.onnx, source, "bf16"),
    "OpenVINO, int8": lambda source: openvino(source.int8, source),
    "OpenVINO, int8 in steps": lambda source: openvino(source.int8, source, steps=True),
}


def build(folder: Path) -> tuple[dict[str, Once], dict[str, str]]:
    """Of each runtime a function that runs the network once, or why it can't run here."""
    torch.set_num_threads(1)
    source, runs, absent = Source(folder), {}, {}
    for name, make in RUNTIMES.items():
        try:
            once = make(source)
            once()  # what compiles at the first call may fail there
            runs[name] = once
        except Exception as error:  # each library has its own; the record says what is missing
            absent[name] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return runs, absent


def versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}
