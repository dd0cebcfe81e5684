"""An int8 network in OpenVINO whose tensors are the steps of their grids, 0 to 255.

OpenVINO turns the sum of a convolution into steps of the next grid: it takes off what the input's zero point added,
multiplies by the scale of weights and input, adds the bias, divides by the output's step and adds its zero point. In
a small network that takes longer than the sum. Of tensors with a step of 1 and a zero point of 0 one product and the
bias are left: the layer that writes a tensor and those that read it have its grid in their weights' scale and bias.
"""

from dataclasses import dataclass

import numpy as np
import openvino
from openvino import Model, Node, Output
from openvino import opset13 as op

STEPS = 255
CONVOLUTIONS = ("Convolution", "GroupConvolution")
PLAIN = (0.0, 1.0)


@dataclass
class Layer:
    """A convolution, the product that gives its weights their scale, and the addition of its bias.

    reads, writes: lowest value and step of the tensors around that hold steps; PLAIN where they hold values.
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
    """Changes the IR `model`, with its int8 form as FakeQuantize operations; returns how many tensors now hold steps. A
    tensor read by anything but convolutions is turned into values for it; one that nothing gains from stays."""
    layers, found = _layers(model), 0
    writers = {layer.bias.get_name(): layer for layer in layers.values()}
    for fake in [node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]:
        grid = _grid(fake)
        if grid is None:
            continue
        low, high = grid
        step = (high - low) / STEPS
        targets = list(fake.output(0).get_target_inputs())
        readers = [target for target in targets if target.get_index() == 0 and target.get_node().get_name() in layers]
        readers = [t for t in readers if low == 0 or not layers[t.get_node().get_name()].padded]
        least = _minimum(targets, grid)
        if not readers and least is None:
            continue
        for target in readers:
            layers[target.get_node().get_name()].reads = (low, step)
        served = {(t.get_node().get_name(), t.get_index()) for t in readers}
        others = [t for t in targets if least is None and (t.get_node().get_name(), t.get_index()) not in served]
        if others:
            values = op.multiply(op.subtract(fake.output(0), _constant(np.rint(-low / step))), _constant(step))
            for target in others:
                target.replace_source_output(values.output(0))
        if least is not None:
            _ranges(least, (0, STEPS), grid)
        taken, writer = grid, writers.get(fake.input_value(0).get_node().get_name())
        if writer is not None and _only_reader(writer.bias) is not None:
            taken, writer.writes = (0, STEPS), (low, step)
        _ranges(fake, taken, (0, STEPS))
        found += 1
    changed = [layer for layer in layers.values() if (layer.reads, layer.writes) != (PLAIN, PLAIN)]
    constants = iter(_computed([value for layer in changed for value in layer.constants()]))
    for layer, *values in zip(changed, constants, constants, constants, strict=True):
        layer.change(*values)
    model.validate_nodes_and_infer_types()
    return found


def _layers(model: Model) -> dict[str, Layer]:
    """The convolutions, by name, whose weights and bias are constants of their own."""
    found = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() not in CONVOLUTIONS or node.get_attributes()["auto_pad"] != "explicit":
            continue
        scaled, bias = node.input_value(1).get_node(), _only_reader(node)
        while scaled.get_type_name() == "Reshape":
            scaled = scaled.input_value(0).get_node()
        if scaled.get_type_name() != "Multiply" or _only_reader(scaled) is None or not _is_constant(scaled.output(0)):
            continue
        if bias is not None and bias.get_type_name() == "Add" and _is_constant(bias.input_value(1)):
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


def _minimum(targets: list, grid: tuple[float, float]) -> Node | None:
    """The FakeQuantize after a minimum over channels that alone reads a tensor, and keeps its grid."""
    node = targets[0].get_node() if len(targets) == 1 else None
    if node is None or node.get_type_name() != "ReduceMin":
        return None
    after = _only_reader(node)
    return after if after is not None and after.get_type_name() == "FakeQuantize" and _grid(after) == grid else None


def _ranges(fake: Node, taken: tuple[float, float], given: tuple[float, float]) -> None:
    for place, value in enumerate((*taken, *given), 1):
        _set(fake, place, value)


def _set(node: Node, place: int, value) -> None:
    node.input(place).replace_source_output(_constant(value).output(0))


def _constant(value) -> Node:
    return op.constant(np.asarray(value, np.float32))


def _computed(values: list[Output]) -> list[np.ndarray]:
    """What parts of a graph without inputs compute."""
    if not values:
        return []
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return list(openvino.Core().compile_model(Model(values, []), "CPU", settings)({}).values())
