"""Exports one variant into artifacts/models/<variant>: the model file and its model.json."""

import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from torch import nn

from edge.inference.detector import load
from edge.inference.modelfile import write_model
from edge.inference.runtimes import FORMATS
from stages.common import atomic
from stages.common.dataset import evenly, load_images, read_index
from stages.common.stage import fail, main
from stages.compile import fidelity, int8, onnx_export, onnx_int8, openvino_ir, tflite
from stages.compile.edgetpu import variant as edgetpu
from stages.compile.validation import validate
from stages.detectors.patchcore import PatchCore
from stages.detectors.student_network import STRIDE
from stages.graph.batchnorm import fold
from stages.graph.network import Network
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor
from stages.training.synthetic_defects import training_pool
from stages.training.torch_setup import prepare

DATA, MODELS = Path("data/train"), Path("artifacts/models")
TOOLS = ("torch", "onnx", "onnx2tf", "tensorflow", "ai-edge-quantizer")


class TeacherOutputs(nn.Module):
    """The teacher with the outputs that a deployed model has: its map, and its score where the rule needs it."""

    def __init__(self, teacher: PatchCore):
        super().__init__()
        self.teacher = teacher

    def forward(self, images):
        maps, scores = self.teacher(images)
        return (maps, scores) if self.teacher.score == "reweighted" else maps


def build(variant, size: int, folder: Path, work: Path, samples: np.ndarray, edgetpu_compiler: str | None = None):
    """Writes the model file of `variant` into `folder`; returns the fields of model.json that it decides, and the
    quantized network that an int8 file must equal (else None)."""
    source = Path("artifacts") / variant.model
    float_onnx = work / "model.onnx"
    if variant.model == "teacher":
        teacher = PatchCore.load(source)
        rule = "output" if teacher.score == "reweighted" else "max"
        outputs = ["map", "score"] if rule == "output" else ["map"]
        graph = onnx_export.export(TeacherOutputs(teacher).eval(), size, float_onnx, outputs)
        shutil.copy(float_onnx, folder / "model.onnx")
        return onnx_fields(graph, variant) | {"rule": rule}, None
    student = fold(Network.load(source))
    graph = onnx_export.export(student, size, float_onnx, student.heads)
    model, quantization = None, None
    if variant.precision == "int8":
        model, quantization = int8_model(variant.model, student, samples)
    if variant.format in ("tflite", "edgetpu"):
        fields = build_tflite(float_onnx, folder / "model.tflite", work, student, model, samples[:1])
        if variant.format == "edgetpu":  # the int8 file stays the model, for the CPU; the compiled one lies beside it
            fields["edgetpu"] = edgetpu.build(folder / "model.tflite", folder, edgetpu_compiler)
    else:
        built = float_onnx
        if model:
            built = work / "int8.onnx"
            onnx_int8.quantize(float_onnx, built, model)
        fields = onnx_fields(graph, variant)
        if variant.format == "openvino":
            openvino_ir.convert(built, folder / "model.xml")
        else:
            shutil.copy(built, folder / "model.onnx")
    return fields | {"quantization": quantization, "rule": "max"}, model


def int8_model(name: str, student: Network, samples: np.ndarray) -> tuple[QuantNetwork, dict]:
    """The network on its int8 grids, and where they come from: training, or values on pictures, half of them with
    defects, or the output would end where good pictures do."""
    if name in ("qat", "pruned-qat"):
        model, ranges = QuantNetwork.load(Path("artifacts") / name), "learned by quantization-aware training"
    else:
        model = QuantNetwork.calibrated(student, to_tensor(samples))
        ranges = f"post-training: smallest and largest values on {len(samples)} training pictures, half with defects"
    scale, zero = model.quantizer(student.heads[0]).scale_zero
    scheme = "int8 weights per channel, 8-bit activations per tensor"
    return model, {"scheme": scheme, "ranges": ranges, "output": {"scale": scale, "zero_point": zero}}


def build_tflite(onnx_path: Path, path: Path, work: Path, student: Network, model: QuantNetwork | None, image) -> dict:
    """Writes a float or int8 TFLite file; the fields of model.json that it decides."""
    float_path = tflite.to_tflite(onnx_path, work)
    names = tflite.match_tensors(float_path, student, image.astype(np.float32) / 255)
    if model is None:
        shutil.copy(float_path, path)
        kind = {"dtype": "float32", "scale": 1.0, "zero_point": 0}
    else:
        int8.quantize(float_path, path, model, names)
        scale, zero = model.quantizer(student.heads[0]).scale_zero
        kind = {"dtype": "int8", "scale": scale, "zero_point": zero}
    side = image.shape[1] // STRIDE
    shape = {"height": side, "width": side, "channels": 1}
    return {
        "file": path.name,
        "format": "tflite",
        "input": FORMATS["tflite"].input_fields("int8" if model else "float32"),
        "outputs": [{"name": student.heads[0], "meaning": "map", **shape, **kind}],
        "quantization": None,
        "cost": tflite.cost(path),
    }


def onnx_fields(graph, variant) -> dict:
    """The fields of model.json of an ONNX graph, as ONNX or OpenVINO; float in and out, int8 or not between them."""
    outputs, float32 = [], {"channels": 1, "dtype": "float32", "scale": 1.0, "zero_point": 0}
    for output in graph.graph.output:
        *_, height, width = (1, 1, *(d.dim_value for d in output.type.tensor_type.shape.dim))
        meaning = "score" if output.name == "score" else "map"
        outputs.append({"name": output.name, "meaning": meaning, "height": height, "width": width, **float32})
    form = FORMATS[variant.format]
    return {
        "file": form.files[0],
        "format": form.name,
        "input": form.input_fields(variant.precision),
        "outputs": outputs,
        "quantization": None,
        "cost": onnx_export.cost(graph),
    }


def compile_variant(params, name: str) -> None:
    p, variant, size = params.compile, getattr(params.variants, name), params.input.size
    prepare(params.seed, params.threads)
    train = read_index(DATA, "train")
    count = max(p.calibration_images, p.fidelity.images)
    samples, _ = training_pool(load_images(DATA, evenly(train, count), size), count, params.seed, 2)
    val = load_images(DATA, read_index(DATA, "val"), size)
    with atomic.directory(MODELS / name) as folder, tempfile.TemporaryDirectory() as work:
        fields, model = build(variant, size, folder, Path(work), samples[: p.calibration_images], p.edgetpu_compiler)
        axes = {key: getattr(params.input, key) for key in ("color", "frames", "step")}
        fields["input"] |= {"height": size, "width": size, "resize": "stretch", **axes}
        info = {
            "task": "anomaly",
            "name": name,
            "score": {"rule": fields.pop("rule"), "smooth": p.smooth, "sigma": p.map_sigma},
            "threshold": {"value": 0.0, "method": "not set yet"},
            "made_by": {tool: version(tool) for tool in TOOLS},
            **fields,
        }
        write_model(folder, info)
        detector = load(folder, threads=params.threads)
        if model:
            info["quantization"]["fidelity"] = fidelity.check(detector, model, samples[: p.fidelity.images], p.fidelity)
        write_model(folder, info | validate(detector, val, p.threshold_quantile, params.seed))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        fail("compile", "give one variant of params.yaml, e.g. python -m stages.compile student-int8", 2)
    main(f"compile@{sys.argv[1]}", lambda params: compile_variant(params, sys.argv[1]))
