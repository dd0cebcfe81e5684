"""What the rules say of single operators, and what one subgraph on the Edge TPU means for those around them."""

import re

import pytest
from edgetpu_models import Net, convolutions

from edge.errors import UserError
from stages.compile.edgetpu.graph import write_inline
from stages.compile.edgetpu.mapping import parameter_bytes, predict

Y = [1, 8, 8, 4]


def single(kind, inputs, output=Y, output_type="int8", **options):
    """One operator; inputs as (shape, dtype, constant) with the last two left out where int8 and no constant."""

    def build() -> Net:
        net = Net()
        numbers = [net.tensor(*i) if isinstance(i, tuple) else net.tensor(i) for i in inputs]
        net.op(kind, numbers, [net.tensor(output, output_type)], **options)
        return net

    return build


def const(shape, value, dtype="int32"):
    return (shape, dtype, value)


WEIGHT, BIAS = const([4, 3, 3, 4], 1, "int8"), const([4], 1)
RESHAPED = [1, 256]
CASES = {  # name: operator, words of the reason (None: mapped)
    "convolution": (single("CONV_2D", [Y, WEIGHT, BIAS]), None),
    "dilated evenly": (single("CONV_2D", [Y, WEIGHT, BIAS], dilationWFactor=2, dilationHFactor=2), None),
    "dilated unevenly": (single("CONV_2D", [Y, WEIGHT, BIAS], dilationWFactor=2), "dilation differs"),
    "weights computed": (single("CONV_2D", [Y, [4, 3, 3, 4], BIAS]), "t1.* is not constant"),
    "float weights": (single("CONV_2D", [Y, const([4, 3, 3, 4], 1, "float32"), BIAS]), "t1 is float32"),
    "int16 data": (single("ADD", [(Y, "int16"), (Y, "int16")], output_type="int16"), "int16, not int8"),
    "uint8 data": (single("ADD", [(Y, "uint8"), (Y, "uint8")], output_type="uint8"), None),
    "float output": (single("DEQUANTIZE", [Y], output_type="float32"), "not a supported operation"),
    "float input": (single("QUANTIZE", [(Y, "float32")]), "float32, not int8"),
    "unknown size": (single("ADD", [[1, -1, 8, 4], [1, 8, 8, 4]]), "no fixed size"),
    "batch of two": (single("ADD", [[2, 8, 8, 4], [2, 8, 8, 4]], [2, 8, 8, 4]), "3 innermost"),
    "five dimensions": (single("LOGISTIC", [[1, 1, 8, 8, 4]], [1, 1, 8, 8, 4]), None),
    "unsupported": (single("HARD_SWISH", [Y]), "not a supported operation"),
    "custom": (single("TFLite_Detection_PostProcess", [Y]), "not a supported operation"),
    "pool": (single("AVERAGE_POOL_2D", [Y], [1, 4, 4, 4], filterWidth=2), None),
    "pool with relu": (single("MAX_POOL_2D", [Y], [1, 4, 4, 4], fusedActivationFunction=1), "fused activation"),
    "concat": (single("CONCATENATION", [Y, Y], [1, 8, 8, 8], axis=3), None),
    "concat zeros": (single("CONCATENATION", [Y, const(Y, 0, "int8")], [1, 8, 8, 8], axis=3), None),
    "concat ones": (single("CONCATENATION", [Y, const(Y, 1, "int8")], [1, 8, 8, 8], axis=3), "all-zero"),
    "concat three": (single("CONCATENATION", [Y, Y, const(Y, 0, "int8")], [1, 8, 8, 12], axis=3), "of two inputs"),
    "dense": (single("FULLY_CONNECTED", [RESHAPED, const([5, 256], 1, "int8")], [1, 5]), None),
    "dense rows": (single("FULLY_CONNECTED", [[7, 9], const([5, 9], 1, "int8")], [7, 5]), "not one-dimensional"),
    "dense shuffled": (
        single("FULLY_CONNECTED", [RESHAPED, const([5, 256], 1, "int8")], [1, 5], weightsFormat=1),
        "default format",
    ),
    "mean of y and x": (single("MEAN", [Y, const([2], [1, 2])], [1, 4]), None),
    "mean of z": (single("MEAN", [Y, const([1], [-1])], [1, 8, 8]), None),
    "mean of odd z": (single("MEAN", [[1, 8, 8, 6], const([1], [3])], [1, 8, 8]), "no multiple of 4"),
    "maximum of batch": (single("REDUCE_MAX", [Y, const([1], [0])], [8, 8, 4]), "batch"),
    "pad": (single("PAD", [Y, const([4, 2], [[0, 0], [1, 1], [1, 1], [0, 3]])], [1, 10, 10, 7]), None),
    "pad batch": (single("PAD", [Y, const([4, 2], [[0, 1], [0, 0], [0, 0], [0, 0]])]), "pads the batch"),
    "pad by int64": (single("PAD", [Y, const([4, 2], 0, "int64")]), "paddings are int64"),
    "prelu": (single("PRELU", [Y, const([1, 1, 4], 1, "int8")]), None),
    "prelu per pixel": (single("PRELU", [Y, const([8, 8, 4], 1, "int8")]), "alpha"),
    "pack": (single("PACK", [[1, 8, 8], [1, 8, 8]], [1, 8, 8, 2], axis=3), None),
    "pack batch": (single("PACK", [[8, 8, 4]], Y, axis=0), "packs the batch"),
    "reshape": (single("RESHAPE", [Y, const([2], [1, 256])], RESHAPED), None),
    "reshape computed": (single("RESHAPE", [Y, ([2], "int32")], RESHAPED), "not constant"),
    "softmax": (single("SOFTMAX", [[1, 1001]], [1, 1001]), None),
    "softmax of rows": (single("SOFTMAX", [[1, 9, 10]], [1, 9, 10]), "not one-dimensional"),
    "softmax long": (single("SOFTMAX", [[1, 16_001]], [1, 16_001]), "16000 elements"),
    "split": (single("SPLIT", [const([], 3), Y], [1, 8, 8, 2]), None),
    "split batch": (single("SPLIT", [const([], 0), Y]), "splits the batch"),
    "squeeze": (single("SQUEEZE", [[1, 1, 1, 10]], [1, 10]), None),
    "squeeze inside": (single("SQUEEZE", [[1, 5, 1, 10]], [5, 10]), "leading"),
    "slice": (
        single("STRIDED_SLICE", [Y, const([4], 0), const([4], [1, 4, 4, 4]), const([4], 1)], [1, 4, 4, 4]),
        None,
    ),
    "slice by two": (
        single("STRIDED_SLICE", [Y, const([4], 0), const([4], 8), const([4], [1, 2, 2, 1])], [1, 4, 4, 4]),
        "stride",
    ),
    "slice with mask": (
        single("STRIDED_SLICE", [Y, const([4], 0), const([4], 8), const([4], 1)], newAxisMask=1),
        "new-axis",
    ),
    "resize by 2": (single("RESIZE_BILINEAR", [Y, const([2], 16)], [1, 16, 16, 4], halfPixelCenters=True), None),
    "resize by 16": (single("RESIZE_BILINEAR", [Y, const([2], 128)], [1, 128, 128, 4]), "enlarges 16 times"),
    "resize of a pixel": (single("RESIZE_BILINEAR", [[1, 1, 1, 4], const([2], 33)], [1, 33, 33, 4]), "enlarges 33"),
    "resize large": (
        single("RESIZE_BILINEAR", [[1, 256, 256, 32], const([2], 512)], [1, 512, 512, 32]),
        "exceed the on-chip memory",
    ),
    "nearest by 16": (single("RESIZE_NEAREST_NEIGHBOR", [Y, const([2], 128)], [1, 128, 128, 4]), None),
    "transpose": (single("TRANSPOSE", [[1, 32, 32, 32], const([4], [0, 2, 3, 1])], [1, 32, 32, 32]), None),
    "transpose large": (
        single("TRANSPOSE", [[1, 64, 32, 32], const([4], [0, 2, 3, 1])], [1, 32, 32, 64]),
        "channels last",
    ),
    "transpose few channels": (
        single("TRANSPOSE", [[1, 4, 128, 128], const([4], [0, 2, 3, 1])], [1, 128, 128, 4]),
        None,
    ),
    "transposed convolution": (single("TRANSPOSE_CONV", [const([4], Y), WEIGHT, Y]), None),
    "tile": (single("TILE", [[1, 1, 1, 4], const([4], [1, 8, 8, 1])]), None),
}


@pytest.mark.parametrize("name", CASES)
def test_single_operator(name, tmp_path):
    build, words = CASES[name]
    [placement] = predict(build().write(tmp_path / "model.tflite"))
    if words is None:
        assert placement.mapped, placement.reason
    else:
        assert not placement.mapped and re.search(words, placement.reason.text), placement.reason


@pytest.mark.parametrize("name", CASES)
def test_operators_without_their_inputs_end_in_one_line_or_none(name, tmp_path):
    net = CASES[name][0]()
    [op] = net.graph.operators
    for count in range(len(op.inputs)):
        op.inputs = op.inputs[:-1]
        try:
            predict(net.write(tmp_path / f"{count}.tflite"))
        except UserError as error:
            assert re.search(r"\.tflite: operator 0 \(\w+\) has impossible inputs", str(error))


def chain(*kinds: str) -> Net:
    """Operators of one input and one output in a row."""
    net = Net()
    last = net.tensor(Y)
    for kind in kinds:
        inputs, last = [last], net.tensor(Y)
        net.op(kind, inputs, [last])
    return net


def mapped(net: Net, tmp_path) -> list[bool]:
    return [p.mapped for p in predict(net.write(tmp_path / "model.tflite"))]


def test_nothing_is_mapped_after_an_operator_on_the_cpu(tmp_path):
    placed = predict(chain("RELU", "ABS", "TANH", "LOGISTIC").write(tmp_path / "model.tflite"))
    assert [p.mapped for p in placed] == [True, False, False, False]
    assert placed[2].reason.text == "needs ABS (operator 1), which is on the CPU; only one subgraph is mapped"
    assert "TANH (operator 2)" in placed[3].reason.text


def test_operators_on_the_cpu_in_front_are_no_obstacle(tmp_path):
    assert mapped(chain("ABS", "NEG", "RELU", "TANH"), tmp_path) == [False, False, True, True]
    assert mapped(chain("ABS", "RELU", "NEG", "TANH"), tmp_path) == [False, True, False, False]


def test_a_branch_beside_an_operator_on_the_cpu_is_mapped(tmp_path):
    net = Net()
    source, trunk, left, right, last, joined = (net.tensor(Y) for _ in range(6))
    net.op("RELU", [source], [trunk])
    net.op("ABS", [trunk], [left])
    net.op("TANH", [trunk], [right])
    net.op("LOGISTIC", [right], [last])
    net.op("ADD", [left, last], [joined])
    assert mapped(net, tmp_path) == [True, False, True, True, False]


def test_parameter_bytes_are_those_of_mapped_operators(tmp_path):
    net = convolutions(2)
    assert parameter_bytes(predict(net.write(tmp_path / "a.tflite"))) == 2 * (4 * 3 * 3 * 4 + 4 * 4)
    net.graph.operators[1].builtinOptions = None
    net.graph.tensors[4].buffer = 0  # weights of the second one are no longer constant
    assert parameter_bytes(predict(net.write(tmp_path / "b.tflite"))) == 4 * 3 * 3 * 4 + 4 * 4


def test_constants_behind_the_flatbuffer_are_brought_inside(tmp_path):
    path = convolutions(2).write(tmp_path / "outside.tflite", outside=True)
    placed = predict(path)
    assert not any(p.mapped for p in placed) and "behind the flatbuffer" in placed[0].reason.text
    write_inline(path, tmp_path / "inline.tflite")
    inline = predict(tmp_path / "inline.tflite")
    assert all(p.mapped for p in inline)
    for before, after in zip(placed, inline, strict=True):
        assert [t.data for t in before.op.inputs] == [t.data for t in after.op.inputs]
    assert inline[0].op.inputs[1].data == bytes([3]) * 144
    cut = path.read_bytes()[:-1]
    path.write_bytes(cut)
    with pytest.raises(UserError, match="damaged"):
        predict(path)
