"""Exports one variant into artifacts/models/<variant>: the model file and its model.json."""

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from torch import nn

from edge.detector import Detector, load
from edge.modelfile import write_model
from stages.common import atomic
from stages.common.dataset import load_images, read_index
from stages.common.errors import UserError
from stages.common.progress import track
from stages.common.stage import fail, main
from stages.compile import int8, onnx_export, tflite
from stages.networks.batchnorm import fold
from stages.networks.patchcore import PatchCore
from stages.networks.quantize import QuantStudent
from stages.networks.student import Student
from stages.networks.torch_setup import prepare

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


def build(variant, size: int, folder: Path, work: Path, samples: np.ndarray) -> dict:
    """Writes the model file of `variant` into `folder`; returns the fields of model.json that it decides."""
    source = Path("artifacts") / variant.model
    onnx_path = (folder if variant.format == "onnx" else work) / "model.onnx"
    if variant.model == "teacher":
        teacher = PatchCore.load(source)
        rule = "output" if teacher.score == "reweighted" else "max"
        outputs = ["map", "score"] if rule == "output" else ["map"]
        graph = onnx_export.export(TeacherOutputs(teacher).eval(), size, onnx_path, outputs)
        return onnx_fields(graph, rule)
    student = fold(Student.load(source))
    graph = onnx_export.export(student, size, onnx_path, student.heads)
    if variant.format == "onnx":
        return onnx_fields(graph, "max")
    float_path = tflite.to_tflite(onnx_path, work)
    names = tflite.match_tensors(float_path, student, samples[:1].astype(np.float32) / 255)
    path = folder / "model.tflite"
    side = size // 8
    output = {"name": student.heads[0], "meaning": "anomaly_map", "height": side, "width": side}
    if variant.precision == "float32":
        path.write_bytes(float_path.read_bytes())
        kind, quantization = {"dtype": "float32", "scale": 1.0, "zero_point": 0}, None
        entry = {"dtype": "float32", "scale": 1 / 255, "zero_point": 0}
    else:
        model = QuantStudent.load(source)
        int8.quantize(float_path, path, model, names)
        scale, zero = model.quantizer(student.heads[0]).scale_zero
        kind = {"dtype": "int8", "scale": scale, "zero_point": zero}
        entry = {"dtype": "int8", "scale": 1 / 255, "zero_point": -128}
        quantization = {"scheme": "int8 per-channel weights, per-tensor activations, ranges from QAT"}
    return {
        "file": "model.tflite",
        "format": "tflite",
        "input": {"layout": "nhwc", **entry},
        "output": output | kind,
        "quantization": quantization,
        "cost": tflite.cost(path),
        "rule": "max",
    }


def onnx_fields(graph, rule: str) -> dict:
    """The fields of model.json of a float ONNX file."""
    output = graph.graph.output[0]
    *_, height, width = (d.dim_value for d in output.type.tensor_type.shape.dim)
    shape = {"height": height, "width": width, "dtype": "float32", "scale": 1.0, "zero_point": 0}
    return {
        "file": "model.onnx",
        "format": "onnx",
        "input": {"layout": "nchw", "dtype": "float32", "scale": 1 / 255, "zero_point": 0},
        "output": {"name": output.name, "meaning": "anomaly_map", **shape},
        "quantization": None,
        "cost": onnx_export.cost(graph),
        "rule": rule,
    }


def threshold(detector: Detector, images: np.ndarray, quantile: float) -> dict:
    """The image threshold: a quantile of the scores that the exported file gives good validation pictures."""
    scores = [detector.predict(image).score for image in track(images, "threshold")]
    method = f"{quantile} quantile of {len(images)} good validation scores"
    return {"value": float(np.quantile(scores, quantile)), "method": method}


def compile_variant(params, name: str) -> None:
    p, variant, size = params.compile, getattr(params.variants, name), params.input.size
    prepare(params.seed, params.threads)
    train = read_index(DATA, "train")[: p.calibration_images]
    samples = load_images(DATA, train, size)
    val = load_images(DATA, read_index(DATA, "val"), size)
    with atomic.directory(MODELS / name) as folder, tempfile.TemporaryDirectory() as work:
        fields = build(variant, size, folder, Path(work), samples)
        fields["input"] |= {"height": size, "width": size, "channels": 3, "color": "rgb", "resize": "stretch"}
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
        if variant.precision == "int8":
            found = int8.agreement(detector.runtime, QuantStudent.load(Path("artifacts") / variant.model), samples)
            if found["exact"] < p.min_exact:
                raise UserError(
                    f"{name}: only {found['exact']:.2%} of the int8 outputs equal the trained network's (largest "
                    f"difference {found['max_lsb']} LSB, {detector.runtime.details['delegate']} kernels); "
                    f"compile.min_exact asks for {p.min_exact:.2%}"
                )
            info["quantization"]["agreement"] = found | {"kernels": detector.runtime.details["delegate"]}
        info["threshold"] = threshold(detector, val, p.threshold_quantile)
        write_model(folder, info)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        fail("compile", "give one variant of params.yaml, e.g. python -m stages.compile student-int8", 2)
    main(f"compile@{sys.argv[1]}", lambda params: compile_variant(params, sys.argv[1]))
