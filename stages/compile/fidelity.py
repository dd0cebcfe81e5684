"""How far an int8 file is from the fake-quantized network that was trained, in steps of its output grid (LSB)."""

import numpy as np
import torch

from edge.errors import UserError
from edge.inference import kernels
from edge.inference.detector import Detector
from stages.common.metrics import difference
from stages.graph import streaming
from stages.graph.memory import at_once
from stages.graph.quantize import QuantNetwork

# the fraction of outputs at most one step apart. onnxruntime's requantization rounds differently from XNNPACK's, which
# is simulated, and a deep network amplifies that: 0.98 to 1 on trained ones. Where its kernels overflow, on processors
# without VNNI (x86 before 2019, AMD before Zen 4), it was 0.28: the limit, a choice in between, is there to notice it.
# `edge` asks both ONNX Runtime and OpenVINO for exact sums there. OpenVINO is recorded only.
ONNX_WITHIN_1 = 0.9
REFERENCE_MACS = 8_000_000_000  # that the reference kernels may take, at 1 to 2 GMAC/s: a choice


def compared(detector: Detector) -> list[str]:
    """The outputs whose integers can be seen: all of a file that returns int8, else the map, whose grid is known."""
    outputs = [output.name for output in detector.info.outputs if output.dtype == "int8"]
    return outputs or [output.name for output in detector.info.outputs if output.meaning == "map"]


def simulated(model: QuantNetwork, images: np.ndarray, outputs: list[str]) -> np.ndarray:
    """The int8 `outputs` of the simulated integer network, one after the other in NHWC order [N, values], for uint8
    images [N, H, W, C]; of a network with states those of every frame of these clips."""
    batches, before = [], streaming.warmup(model.network, images.shape[3])
    batch = max(1, at_once(model.network, *images.shape[1:3], most=32) // 4)  # float64, and kernels that need as much
    for i in range(0, len(images), batch):
        clips = torch.from_numpy(images[i : i + batch]).permute(0, 3, 1, 2)
        steps = list(streaming.steps(model.integers, model.network, clips))[before:]
        values = [found[name].permute(0, 2, 3, 1).flatten(1) for found in steps for name in outputs]
        batches.append(torch.cat(values, 1))
    return torch.cat(batches).numpy()


def started(detector: Detector, clip: np.ndarray) -> list[np.ndarray]:
    """What a detector is given of a clip [H, W, C], one after the other: all of it, or, after a reset, each frame."""
    if not detector.info.state:
        return [clip]
    detector.reset()
    return np.split(clip, clip.shape[2] // detector.info.input.channels, axis=2)


def device_outputs(detector: Detector, images: np.ndarray) -> np.ndarray:
    """The same of the file, run by `edge`: integers of the output grids."""
    info, names = detector.info, compared(detector)
    if info.quantization is None:
        raise ValueError(f"{info.name}: a float file has no output grid")
    places = [i for i, output in enumerate(info.outputs) if output.name in names]
    found = []
    for image in images:
        raws = [detector.invoke(detector.prepare(sample)) for sample in started(detector, image)]
        found.append(np.concatenate([raw[i].reshape(-1) for raw in raws for i in places]))
    values, grid = np.stack(found), info.quantization.output
    return values if values.dtype == np.int8 else np.rint(values / np.float32(grid.scale)) + grid.zero_point


def check(detector: Detector, model: QuantNetwork, images: np.ndarray, limits) -> dict:
    """The fidelity record of an int8 file; UserError when it is outside the limits (compile.fidelity)."""
    found, wanted = device_outputs(detector, images), simulated(model, images, compared(detector))
    kernel = detector.details["delegate"] or "builtin"
    record = {"kernel": f"{detector.details['name']} {kernel}", "images": len(images), **difference(found, wanted)}
    if kernel == "XNNPACK":
        plain = kernels.use(Detector(detector.info), "reference")
        few = max(1, min(len(images), REFERENCE_MACS // max(1, detector.info.macs)))
        record["reference_kernels"] = difference(device_outputs(plain, images[:few]), found[:few])
        if few < len(images):
            record["reference_kernels"]["images"] = few
    held = {"XNNPACK": {"exact": limits.exact, "within_1": limits.within_1}}
    held["CPUExecutionProvider"] = {"within_1": ONNX_WITHIN_1}
    limited = {} if detector.info.tensorrt else held.get(kernel, {})  # symmetric grids are other ones
    for key, limit in limited.items():
        if record[key] < limit:
            raise UserError(
                f"{detector.info.name}: {key} = {record[key]:.4%} of the int8 outputs against the trained network "
                f"(largest difference {record['max_lsb']} LSB, {record['kernel']}); at least {limit:.4%} must hold "
                "(compile.fidelity)"
            )
    return record
