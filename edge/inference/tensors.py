"""Which tensor of a model file is what its model.json says, and that each looks as it says."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge.errors import ModelError
from edge.inference.formats import Runtime, Tensor
from edge.inference.modelinfo import ModelInfo
from edge.inference.modelspec import InputSpec, OutputSpec, StateSpec


@dataclass(frozen=True)
class Places:
    """Indices into the inputs and outputs of a runtime; of the states in the order of model.json."""

    input: int
    outputs: list[int]
    state_inputs: list[int]
    state_outputs: list[int]


def find(info: ModelInfo, runtime: Runtime) -> Places:
    """Where the runtime has the sample, the outputs and the states; ModelError when one is absent or differs."""
    state_inputs = [_named(info, "input", state.input, runtime.inputs) for state in info.state]
    state_outputs = [_named(info, "output", state.output, runtime.outputs) for state in info.state]
    for state, i, o in zip(info.state, state_inputs, state_outputs):  # noqa: B905 (strict needs Python 3.10)
        _check(info, f"state input {state.input}", runtime.inputs[i], [state.shape], state)
        _check(info, f"state output {state.output}", runtime.outputs[o], [state.shape], state)
    samples = [i for i in range(len(runtime.inputs)) if i not in state_inputs]
    if len(samples) != 1:
        raise ModelError(f"{info.path}: {len(samples)} inputs are no state in model.json; a sample is one input")
    spec = info.input
    sides = (spec.height, spec.width)
    shape = (1, *sides, spec.channels) if spec.layout == "nhwc" else (1, spec.channels, *sides)
    _check(info, "input", runtime.inputs[samples[0]], [shape], spec)
    outputs: list[int] = []
    for output in info.outputs:
        outputs.append(_place(info, output, runtime.outputs, [*outputs, *state_outputs]))
        _check(info, f"output {output.name}", runtime.outputs[outputs[-1]], _shapes(info, output), output)
    return Places(samples[0], outputs, state_inputs, state_outputs)


def _shapes(info: ModelInfo, output: OutputSpec) -> list[tuple[int, ...]]:
    """The shapes that an output may have; empty for a score, which is any tensor of one element."""
    height, width, channels = output.height, output.width, output.channels
    nhwc, nchw = (1, height, width, channels), (1, channels, height, width)
    if output.meaning == "map":
        return [nhwc, nchw]
    return [] if output.meaning == "score" else [nhwc if info.input.layout == "nhwc" else nchw]


def _fits(info: ModelInfo, output: OutputSpec, tensor: Tensor) -> bool:
    if output.meaning == "score":
        return math.prod(side if isinstance(side, int) else 0 for side in tensor.shape) == 1
    return tuple(tensor.shape) in _shapes(info, output)


def _place(info: ModelInfo, output: OutputSpec, tensors: list[Tensor], taken: list[int]) -> int:
    """The output of that name; a converter may have renamed it, so else the first other one of that shape."""
    free = [i for i in range(len(tensors)) if i not in taken]
    found = [i for i in free if tensors[i].name == output.name]
    found = found or [i for i in free if _fits(info, output, tensors[i])]
    if not found:
        sides = " x ".join(str(n) for n in (output.height, output.width, output.channels))
        raise ModelError(f"{info.path}: no output {output.name!r} of {sides}; it has {_listed(tensors)}")
    return found[0]


def _named(info: ModelInfo, what: str, name: str, tensors: list[Tensor]) -> int:
    for i, tensor in enumerate(tensors):
        if tensor.name == name:
            return i
    raise ModelError(f"{info.path}: no {what} {name!r} for the state in model.json; it has {_listed(tensors)}")


def _listed(tensors: list[Tensor]) -> str:
    return ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in tensors)


def _check(
    info: ModelInfo, what: str, tensor: Tensor, shapes: list[tuple[int, ...]], spec: InputSpec | OutputSpec | StateSpec
) -> None:
    """ModelError unless the tensor has one of the shapes (any, where none is given), type and quantization."""
    if (shapes and tuple(tensor.shape) not in shapes) or tensor.dtype != spec.dtype:
        declared = f"{spec.dtype} {list(shapes[0]) if shapes else ''}".strip()
        raise ModelError(f"{info.path}: {what} is {tensor.dtype} {list(tensor.shape)}, but model.json says {declared}")
    if spec.dtype != "int8" or tensor.scale is None:
        return
    if not math.isclose(tensor.scale, spec.scale, rel_tol=1e-5) or tensor.zero_point != spec.zero_point:
        raise ModelError(
            f"{info.path}: {what} has scale {tensor.scale:.8g} and zero point {tensor.zero_point}, "
            f"but model.json says {spec.scale:.8g} and {spec.zero_point}"
        )
