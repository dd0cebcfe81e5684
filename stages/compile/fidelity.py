"""How far an int8 file is from the fake-quantized network that was trained, in steps of its output grid (LSB)."""

import numpy as np
import torch

from edge.errors import UserError
from edge.inference.detector import Detector
from stages.graph.quantize import QuantNetwork

# the fraction of outputs at most one step apart. onnxruntime's requantization rounds differently from XNNPACK's, which
# is simulated, and a deep network amplifies that: 0.98 to 1 on trained ones. Where its kernels overflow, on processors
# without VNNI (x86 before 2019, AMD before Zen 4), it was 0.28: the limit, a choice in between, is there to notice it.
# OpenVINO overflows there by design and is recorded only.
ONNX_WITHIN_1 = 0.9


def difference(found: np.ndarray, wanted: np.ndarray) -> dict:
    """The fraction of equal outputs (`exact`), of those at most one step apart, and the largest difference."""
    steps = np.abs(found.astype(np.int64) - wanted.astype(np.int64))
    return {"exact": float((steps == 0).mean()), "within_1": float((steps <= 1).mean()), "max_lsb": int(steps.max())}


def simulated(model: QuantNetwork, images: np.ndarray) -> np.ndarray:
    """The int8 outputs [N, h * w] of the simulated integer network for uint8 images [N, S, S, C]."""
    batches = [
        model.simulate(torch.from_numpy(images[i : i + 8]).permute(0, 3, 1, 2)) for i in range(0, len(images), 8)
    ]
    return torch.cat(batches).numpy().reshape(len(images), -1)


def device_outputs(detector: Detector, images: np.ndarray) -> np.ndarray:
    """The outputs of the file [N, h * w], run by `edge`, as integers of the output grid; images uint8 [N, S, S, C]."""
    if detector.info.quantization is None:
        raise ValueError(f"{detector.info.name}: a float file has no output grid")
    grid = detector.info.quantization.output
    raw = np.stack([detector.invoke(detector.prepare(image))[0].reshape(-1) for image in images])
    return raw if raw.dtype == np.int8 else np.rint(raw / np.float32(grid.scale)) + grid.zero_point


def reference_outputs(detector: Detector, images: np.ndarray) -> np.ndarray:
    """The same outputs by TFLite's reference kernels, which round differently."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(str(detector.info.path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    entry, leave = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    outputs = []
    for image in images:
        interpreter.set_tensor(entry, detector.prepare(image))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(leave).reshape(-1))
    return np.stack(outputs)


def check(detector: Detector, model: QuantNetwork, images: np.ndarray, limits) -> dict:
    """The fidelity record of an int8 file; UserError when it is outside the limits (compile.fidelity)."""
    found, wanted = device_outputs(detector, images), simulated(model, images)
    kernel = detector.details["delegate"] or "builtin"
    record = {"kernel": f"{detector.details['name']} {kernel}", "images": len(images), **difference(found, wanted)}
    if kernel == "XNNPACK":
        record["reference_kernels"] = difference(reference_outputs(detector, images), found)
    held = {"XNNPACK": {"exact": limits.exact, "within_1": limits.within_1}}
    held["CPUExecutionProvider"] = {"within_1": ONNX_WITHIN_1}
    for key, limit in held.get(kernel, {}).items():
        if record[key] < limit:
            raise UserError(
                f"{detector.info.name}: {key} = {record[key]:.4%} of the int8 outputs against the trained network "
                f"(largest difference {record['max_lsb']} LSB, {record['kernel']}); at least {limit:.4%} must hold "
                "(compile.fidelity)"
            )
    return record
