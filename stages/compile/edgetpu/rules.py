"""Rules for which operators the Edge TPU compiler maps: each names the reason to leave one on the CPU, and its source.

Sources: `documented` is the page "TensorFlow models on the Edge TPU" (coral.ai/docs/edgetpu/models-intro: model
requirements, supported operations, as of compiler 16); `observed` is what compiled models or published logs of the
compiler show where the page gives no figure. Where the two disagree, the line that decides says so.

Not predicted, because no limit is published: "certain reshapes for large tensors" and a compiler that gives up with
"large activation tensors in model".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from stages.compile.edgetpu.graph import NUMPY, Op, Tensor

DOCUMENTED, OBSERVED = "documented", "observed"
ON_CHIP = 8 * 2**20  # bytes of SRAM for parameters and activations ("roughly 8 MB", Edge TPU compiler page)
SOFTMAX_LIMIT = 16_000
# a factor of 2 is mapped (movenet), 15.5 and 33 are not (deeplab). 8 is an assumption between them: bilinear weights
# are multiples of 1/(2 factor) in y and in x, so those of a larger factor need more than 8 bits ("loss in precision")
RESIZE_FACTOR = 8
# measured with compiler 16 (onnxsim pull request 1418): to channels last, [1, 64, 32, 32] fails, [1, 32, 32, 32] and
# [1, 4, 128, 128] pass
TRANSPOSE_ELEMENTS, TRANSPOSE_CHANNELS = 65_536, 8
EIGHT_BIT = ("int8", "uint8")


@dataclass(frozen=True)
class Reason:
    """Why an operator stays on the CPU."""

    text: str
    source: str


Check = Callable[[Op], Reason | None]


@dataclass(frozen=True)
class Rule:
    """A supported operator: the inputs that must be constants, and what else may speak against it."""

    constants: tuple[int, ...] = ()
    checks: tuple[Check, ...] = ()


def why_not(op: Op) -> Reason | None:
    """Why the compiler does not map this operator whatever surrounds it; None if it does."""
    rule = RULES.get(op.kind)
    if op.custom or rule is None:
        return Reason("not a supported operation", DOCUMENTED)
    constants: Check = partial(_constants, slots=rule.constants)
    for check in (constants, _static, _eight_bit, _three_dimensions, *rule.checks):
        reason = check(op)
        if reason:
            return reason
    return None


# what holds for every operator


def _constants(op: Op, slots: tuple[int, ...]) -> Reason | None:
    for slot in slots:
        tensor = op.input(slot)
        if tensor is not None and not tensor.constant:
            return Reason(f"input {slot} ({tensor.name}) is not constant at compile time", DOCUMENTED)
    tensor = next((t for t in op.inputs if t is not None and t.outside), None)
    if tensor is None:
        return None
    # published logs: compiler 16 takes a constant that lies there for none ("not constant at compile-time")
    return Reason(f"{tensor.name} is stored behind the flatbuffer, where the compiler is blind", OBSERVED)


def _static(op: Op) -> Reason | None:
    tensor = next((t for t in op.activations if any(d < 1 for d in t.shape)), None)
    return Reason(f"{tensor.name} {list(tensor.shape)} has no fixed size", DOCUMENTED) if tensor else None


def _eight_bit(op: Op) -> Reason | None:
    weights = op.inputs[1:2] if op.kind in WEIGHTED else ()
    for tensor in [*op.activations, *(t for t in weights if t is not None)]:
        state = (
            op.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM" and tensor.dtype == "int16"
        )  # its cell state, mapped all the same
        if tensor.dtype not in EIGHT_BIT and not state:
            return Reason(f"{tensor.name} is {tensor.dtype}, not int8 or uint8", DOCUMENTED)
    return None


def _three_dimensions(op: Op) -> Reason | None:
    tensor = next((t for t in op.activations if any(d > 1 for d in t.shape[:-3])), None)
    text = "only the 3 innermost may be > 1"
    return Reason(f"{tensor.name} {list(tensor.shape)}: {text}", DOCUMENTED) if tensor else None


# limits of single operators


def _documented(fails: Callable[[Op], bool], text: str) -> Check:
    return lambda op: Reason(text, DOCUMENTED) if fails(op) else None


def _option(op: Op, name: str, default: int = 0) -> int:
    return getattr(op.options, name, default)


def _axes(op: Op, slot: int) -> list[int]:
    """The axes that a constant input names, counted from the front."""
    tensor, rank = op.input(slot), len(_data(op).shape)
    if tensor is None or tensor.dtype not in NUMPY or not rank:
        return []
    return [int(v) % rank for v in tensor.values()]


def _data(op: Op) -> Tensor:
    """The tensor that an operator works on: its first input that is no constant."""
    return next((t for t in op.inputs if t is not None and not t.constant), op.outputs[0])


def _touches_batch(axis: int, rank: int) -> bool:
    return rank >= 4 and axis % rank == rank - 4  # of y, x, z and what is in front of them


def _batch_reduced(op: Op) -> bool:
    return any(_touches_batch(axis, len(_data(op).shape)) for axis in _axes(op, 1))


def _batch_padded(op: Op) -> bool:
    rank, pads = len(_data(op).shape), op.required(1).values()
    return any(_touches_batch(axis, rank) for axis in range(rank) if pads[2 * axis : 2 * axis + 2].any())


def _odd_depth_reduced(op: Op) -> bool:
    shape = _data(op).shape
    return len(shape) - 1 in _axes(op, 1) and shape[-1] % 4 != 0


def _one_dimension(shape: tuple[int, ...]) -> bool:
    return all(d == 1 for d in shape[:-1])


def _constant_joined(op: Op) -> bool:
    constants = [t for t in op.inputs if t is not None and t.constant]
    zeros = all((t.values() == (t.zero_point or 0)).all() for t in constants)
    return bool(constants) and (len(op.inputs) != 2 or not zeros)


def _squeezed_inside(op: Op) -> bool:
    """Whether a dimension goes that is not in front: the page allows leading ones only."""
    before, after = op.required(0).shape, op.outputs[0].shape
    return before[len(before) - len(after) :] != after


def _large_resize(op: Op) -> Reason | None:
    """The page: not mapped "depending on input/output size ... to avoid loss in precision", without a figure."""
    before, after = op.required(0), op.outputs[0]
    factor = max(after.shape[axis] / before.shape[axis] for axis in (1, 2))
    if op.kind == "RESIZE_BILINEAR" and factor > RESIZE_FACTOR:
        return Reason(f"enlarges {factor:.3g} times; more than {RESIZE_FACTOR} loses precision", OBSERVED)
    if before.size + after.size > ON_CHIP:  # 256x256 to 512x512x32 is refused, 64x64 to 128x128x32 mapped (issue 31)
        return Reason(f"input and output ({before.size + after.size} bytes) exceed the on-chip memory", OBSERVED)
    return None


def _long_paddings(op: Op) -> Reason | None:
    """Published logs: compiler 16 reads paddings as int32 whatever their type, and then pads another axis."""
    return Reason("paddings are int64, not int32", OBSERVED) if op.required(1).dtype == "int64" else None


def _large_transpose(op: Op) -> Reason | None:
    """The page names no limit; measured: large tensors are not brought from channels first to channels last."""
    tensor, order = op.required(0), op.required(1).values()
    to_last = len(tensor.shape) == 4 and list(order) == [0, 2, 3, 1]
    if to_last and tensor.shape[1] >= TRANSPOSE_CHANNELS and tensor.size >= TRANSPOSE_ELEMENTS:
        return Reason(f"{list(tensor.shape)} is too large to be brought to channels last", OBSERVED)
    return None


_no_activation = _documented(lambda op: _option(op, "fusedActivationFunction") != 0, "has a fused activation function")
_same_dilation = _documented(
    lambda op: _option(op, "dilationWFactor", 1) != _option(op, "dilationHFactor", 1), "dilation differs in x and y"
)
_not_batch = _documented(_batch_reduced, "works on the batch dimension")
_PLAIN, _REDUCTION = Rule(), Rule((1,), (_not_batch,))
_POOL, _CONVOLUTION = Rule((), (_no_activation,)), Rule((1, 2), (_same_dilation,))

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "UNIDIRECTIONAL_SEQUENCE_LSTM")
RULES = {
    "ADD": _PLAIN,
    "AVERAGE_POOL_2D": _POOL,
    "CONCATENATION": Rule(
        (),
        (
            _no_activation,
            _documented(_constant_joined, "joins a constant that is not the all-zero one of two inputs"),
        ),
    ),
    "CONV_2D": _CONVOLUTION,
    "DEPTHWISE_CONV_2D": _CONVOLUTION,
    "EXPAND_DIMS": Rule((1,)),
    "FULLY_CONNECTED": Rule(
        (1, 2),
        (
            _documented(lambda op: _option(op, "weightsFormat") != 0, "weights not in the default format"),
            _documented(lambda op: not _one_dimension(op.outputs[0].shape), "output is not one-dimensional"),
        ),
    ),
    "L2_NORMALIZATION": _PLAIN,
    "LOGISTIC": _PLAIN,
    "MAXIMUM": _PLAIN,
    "MAX_POOL_2D": _POOL,
    "MEAN": Rule((1,), (_not_batch, _documented(_odd_depth_reduced, "z is reduced and no multiple of 4"))),
    "MINIMUM": _PLAIN,
    "MUL": _PLAIN,
    "PACK": Rule(
        (),
        (
            _documented(
                lambda op: _touches_batch(_option(op, "axis"), len(op.outputs[0].shape)), "packs the batch dimension"
            ),
        ),
    ),
    "PAD": Rule((1,), (_long_paddings, _documented(_batch_padded, "pads the batch dimension"))),
    "PRELU": Rule(
        (1,), (_documented(lambda op: not _one_dimension(op.required(1).shape), "alpha is not one-dimensional"),)
    ),
    "QUANTIZE": _PLAIN,
    "REDUCE_MAX": _REDUCTION,
    "REDUCE_MIN": _REDUCTION,
    "RELU": _PLAIN,
    "RELU6": _PLAIN,
    "RELU_N1_TO_1": _PLAIN,
    "RESHAPE": Rule((1,)),
    "RESIZE_BILINEAR": Rule((1,), (_large_resize,)),
    "RESIZE_NEAREST_NEIGHBOR": Rule((1,), (_large_resize,)),
    "RSQRT": _PLAIN,
    "SLICE": Rule((1, 2)),
    # logs of YOLO models show three-dimensional ones mapped by compiler 16; the documented limit is kept
    "SOFTMAX": Rule(
        (),
        (
            _documented(lambda op: not _one_dimension(op.required(0).shape), "input is not one-dimensional"),
            _documented(lambda op: op.required(0).size > SOFTMAX_LIMIT, f"more than {SOFTMAX_LIMIT} elements"),
        ),
    ),
    "SPACE_TO_DEPTH": _PLAIN,
    "SPLIT": Rule(
        (0,),
        (
            _documented(
                lambda op: any(_touches_batch(a, len(op.outputs[0].shape)) for a in _axes(op, 0)),
                "splits the batch dimension",
            ),
        ),
    ),
    "SQUARED_DIFFERENCE": _PLAIN,
    "SQUEEZE": Rule((), (_documented(_squeezed_inside, "removes a dimension that is not a leading one"),)),
    "STRIDED_SLICE": Rule(
        (1, 2, 3),
        (
            _documented(lambda op: bool((op.required(3).values() != 1).any()), "a stride is not 1"),
            _documented(
                lambda op: _option(op, "ellipsisMask") != 0 or _option(op, "newAxisMask") != 0,
                "ellipsis or new-axis mask",
            ),
        ),
    ),
    "SUB": _PLAIN,
    "SUM": _REDUCTION,
    "TANH": _PLAIN,
    "TILE": Rule((1,)),  # not on the page; observed to be mapped in Coral's compiled models
    "TRANSPOSE": Rule((1,), (_large_transpose,)),
    "TRANSPOSE_CONV": Rule((0, 1, 3)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Rule(tuple(range(1, 16))),  # "LSTM: unidirectional only"
}
