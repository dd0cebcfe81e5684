"""An int8 network in OpenVINO whose tensors are the steps of their grids, 0 to 255.

OpenVINO turns the sum of a convolution into steps of the next grid: it takes off what the input's zero point added,
multiplies by the scale of weights and input, adds the bias, divides by the output's step and adds its zero point. In
a small network that takes longer than the sum. If tensors have a step of 1 and a zero point of 0, only one product and
the bias remain; the layers on both sides of a tensor take its grid into the scale of their weights and their bias.

Where a minimum over channels is all that reads a tensor, its steps count down from the highest value: the minimum of
the values is then the maximum of the steps, which max pooling finds in bytes, while ReduceMin makes int32 of each.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np
import openvino
from openvino import Model, Node, Output
from openvino import opset13 as op

from edge.inference.runtimes.openvino import core

STEPS = 255
TOGETHER = 64  # channels of which max pooling compares so many at a time; 128 were no faster
CONVOLUTIONS = ("Convolution", "GroupConvolution")
PLAIN = (0.0, 1.0)


@dataclass
class Layer:
    """A convolution, the product that gives its weights their scale, and the addition of its bias.

    reads, writes: of the tensors around that hold steps the value of step 0, and the step, negative where they count
    down; PLAIN where they hold values.
    """

    node: Node
    scaled: Node
    bias: Node
    reads: tuple[float, float] = PLAIN
    writes: tuple[float, float] = PLAIN

    @property
    def padded(self) -> bool:
        """Whether zeros are put around the input, which mean something else in steps of a grid with a zero point."""
        return any(self.node.get_pads_begin()) or any(self.node.get_pads_end())

    def constants(self) -> list[Output]:
        """Weights, their scale, and bias."""
        return [self.node.input_value(1), self.scaled.input_value(1), self.bias.input_value(1)]

    def change(self, weights: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> None:
        """Gives scale and bias what `reads` and `writes` say."""
        (low, step), (floor, unit) = self.reads, self.writes
        total = weights.astype(np.float64).reshape(bias.size, -1).sum(1).reshape(bias.shape)
        _set(self.scaled, 1, scale.astype(np.float64) * step / unit)
        _set(self.bias, 1, (bias + low * total - floor) / unit)


def in_steps(model: Model) -> int:
    """Changes the IR `model`, of fixed shapes in float32, whose int8 tensors are marked by FakeQuantize operations;
    returns how many of them now hold steps. What else reads such a tensor is given its values; one that no layer here
    reads, and no minimum, keeps them."""
    layers, found = _layers(model), 0
    writers = {layer.bias.get_name(): layer for layer in layers.values() if _only_reader(layer.bias) is not None}
    for fake in [node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]:
        grid = _grid(fake)
        if grid is None:
            continue
        low, high = grid
        step = (high - low) / STEPS
        writer = writers.get(fake.input_value(0).get_node().get_name())
        targets = list(fake.output(0).get_target_inputs())
        if writer is not None and _smallest(targets):
            writer.writes = (high, -step)
            smallest = targets[0].get_node()
            values = _values(_largest(fake.output(0)), high, -step)
            smallest.output(0).replace(values)
        else:
            readers = {target.get_node().get_name() for target in targets} & layers.keys()
            readers = {name for name in readers if low == 0 or not layers[name].padded}
            if not readers:
                continue
            for name in readers:
                layers[name].reads = (low, step)
            others = [target for target in targets if target.get_node().get_name() not in readers]
            if others:
                values = _values(fake.output(0), low, step)
                for target in others:
                    target.replace_source_output(values)
            if writer is not None:
                writer.writes = (low, step)
        # with a writer the sum arrives in steps
        for place, value in enumerate((*(grid if writer is None else (0, STEPS)), 0, STEPS), 1):
            _set(fake, place, value)
        found += 1
    changed = [layer for layer in layers.values() if (layer.reads, layer.writes) != (PLAIN, PLAIN)]
    constants = iter(_computed([value for layer in changed for value in layer.constants()]))
    for layer, *values in zip(changed, constants, constants, constants, strict=True):
        layer.change(*values)
    model.validate_nodes_and_infer_types()
    return found


def _layers(model: Model) -> dict[str, Layer]:
    """The convolutions, by name, whose weights and bias of each channel are constants of their own."""
    found = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() not in CONVOLUTIONS:
            continue
        scaled, bias = node.input_value(1).get_node(), _only_reader(node)
        while scaled.get_type_name() == "Reshape" and _only_reader(scaled) is not None:
            scaled = scaled.input_value(0).get_node()
        if scaled.get_type_name() != "Multiply" or _only_reader(scaled) is None or not _is_constant(scaled.output(0)):
            continue
        if bias is None or bias.get_type_name() != "Add" or not _is_constant(bias.input_value(1)):
            continue
        if list(bias.input_value(1).get_shape()) == [1, node.get_output_shape(0)[1], 1, 1]:
            found[node.get_name()] = Layer(node, scaled, bias)
    return found


def _only_reader(node: Node) -> Node | None:
    targets = list(node.output(0).get_target_inputs())
    return targets[0].get_node() if len(targets) == 1 else None


def _is_constant(value: Output) -> bool:
    node = value.get_node()
    inputs = node.input_values()
    return all(map(_is_constant, inputs)) if inputs else node.get_type_name() == "Constant"


def _grid(fake: Node) -> tuple[float, float] | None:
    """The lowest and highest value of a FakeQuantize of a tensor; None where it does more than rounding to a grid of 8
    bits that has zero on it."""
    sources = [fake.input_value(i).get_node() for i in range(5)]
    if fake.get_attributes()["levels"] != STEPS + 1 or any(s.get_type_name() != "Constant" for s in sources[1:]):
        return None
    given = [np.asarray(source.data) for source in sources[1:]]
    if any(values.size != 1 for values in given):
        return None
    low, high, *out = (float(values.item()) for values in given)
    if out != [low, high] or high <= low:
        return None
    zero = -low / (high - low) * STEPS
    return (low, high) if abs(zero - round(zero)) < 1e-3 else None


def _smallest(targets: list) -> bool:
    """Whether a tensor is read by nothing but a minimum over channels, of which there are enough at a time."""
    node = targets[0].get_node() if len(targets) == 1 else None
    if node is None or node.get_type_name() != "ReduceMin" or not node.get_attributes()["keep_dims"]:
        return False
    axes, shape = node.input_value(1).get_node(), node.input_value(0).get_shape()
    over = np.array(axes.data).tolist() if axes.get_type_name() == "Constant" else []
    return over in (1, [1]) and len(shape) == 4 and shape[0] == 1 and gcd(shape[1], TOGETHER) >= 8


def _largest(value: Output) -> Output:
    """The maximum over channels [1, C, H, W] by max pooling."""
    _, channels, height, width = value.get_shape()
    few = gcd(channels, TOGETHER)
    last = op.transpose(value, _order(0, 2, 3, 1))  # as it lies in memory
    split = op.reshape(last, _order(height * width, channels // few, 1, few), False)
    rows = op.transpose(split, _order(0, 3, 1, 2))
    pooled = op.max_pool(rows, [1, 1], [1, 1], [0, 0], [0, 0], [channels // few, 1])
    return op.reshape(op.reduce_max(pooled.output(0), _order(1)), _order(1, 1, height, width), False).output(0)


def _order(*numbers: int) -> Node:
    return op.constant(np.array(numbers, np.int64))


def _values(steps: Output, low: float, step: float) -> Output:
    """The values that steps stand for."""
    return op.multiply(op.subtract(steps, _constant(np.rint(-low / step))), _constant(step)).output(0)


def _set(node: Node, place: int, value) -> None:
    node.input(place).replace_source_output(_constant(value).output(0))


def _constant(value) -> Node:
    return op.constant(np.asarray(value, np.float32))


def _computed(values: list[Output]) -> list[np.ndarray]:
    """What parts of a graph without inputs compute."""
    if not values:
        return []
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return list(core(openvino).compile_model(Model(values, []), "CPU", settings)({}).values())
