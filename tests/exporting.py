"""A detector exported as the stage does it and opened as a device does; a random student in its files."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from students import body, with_bank

from edge.geometry import Geometry
from edge.inference.detector import Detector, load
from stages.compile import tflite
from stages.compile.__main__ import write
from stages.compile.build import Build
from stages.detectors.quantized_student import QuantizedStudent
from stages.graph.batchnorm import fold
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor

SIZE = 64  # of the random student's pictures


def noise(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def export(
    detector, form: str, precision: str, root: Path, samples: np.ndarray, geometry: Geometry | None = None
) -> tuple[Build, Detector]:
    """Into `root`/<format>-<precision>; samples uint8 [N, H, W, C] are what calibration sees. geometry: None for a
    picture of their size."""
    folder, work = root / f"{form}-{precision}", root / f"work-{form}-{precision}"
    folder.mkdir(parents=True)
    work.mkdir()
    build = Build(detector, "tiny", form, precision, samples, folder, work)
    channels = samples.shape[3]
    axes = {"color": "rgb", "frames": 1} if channels == 3 else {"color": "grey", "frames": channels}
    spec = SimpleNamespace(geometry=geometry or Geometry(*samples.shape[1:3]), step=1, depth=None, **axes)
    write(build, SimpleNamespace(input=spec, compile=SimpleNamespace(smooth=1, map_sigma=0.0)))
    return build, load(folder)


def distinct_params(network: torch.nn.Module) -> int:
    """Parameters of an ONNX file, whose exporter merges tensors that are equal: here biases that are all 0."""
    return sum({(p.shape, p.detach().numpy().tobytes()): p.numel() for p in network.parameters()}.values())


@cache
def random_student() -> SimpleNamespace:
    """The int8 and ONNX variants of a random student with ranges that training observed, and what they were made of;
    built once per run."""
    root = Path(tempfile.mkdtemp(prefix="random-student-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    torch.manual_seed(1)
    model = QuantNetwork(fold(with_bank(body(0.25), noise(4, 0)))).train()
    with torch.no_grad():
        model(to_tensor(noise(4, 0)))
    model.freeze_ranges()
    detector = QuantizedStudent(model.eval(), trained=True)
    int8_build, device = export(detector, "tflite", "int8", root, noise(1, 2))
    float_build, _ = export(detector, "onnx", "float32", root, noise(1, 2))
    float_path, folded = int8_build.work / "converted/model_float32.tflite", int8_build.network
    return SimpleNamespace(
        model=model,
        folded=folded,
        device=device,
        int8_build=int8_build,
        float_build=float_build,
        float_path=float_path,
        int8_path=device.info.path,
        names=tflite.match_tensors(float_path, folded, noise(1, 3).astype(np.float32) / 255),
    )
