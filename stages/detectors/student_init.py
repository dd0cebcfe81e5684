"""The student's initial weights: random, or a pretrained MobileNetV2 trunk made narrower or wider."""

import re

import torch
from transformers import MobileNetV2Model

from edge.errors import UserError
from stages.detectors.backbone import WEIGHTS, explained, located
from stages.detectors.student_network import architecture
from stages.graph.batchnorm import recalibrate, reinsert
from stages.graph.narrow import narrow
from stages.graph.network import Network, Node

TRUNK = re.compile(r"stem$|b\d+_")  # names of its nodes
NARROWING = 16  # pictures that a narrower trunk is fitted on: a choice, bounds time and memory


def new_student(init: str, width: float, images: torch.Tensor) -> Network:
    """A student of `width`; with a pretrained `init` its trunk computes the pretrained features as well as its width
    allows.

    images: float [N, C, S, S] in 0..1, training samples on which batch norm is calibrated. A pretrained
    first layer sees the mean of grey frames as all three colours. UserError for an `init` that can't be loaded.
    """
    channels = images.shape[1]
    student = Network(architecture(width), channels)
    if init == "scratch":
        return student
    trunk = Network(_trunk(1.0), channels)
    _copy_trunk(trunk, _load(init))
    reinsert(trunk, images)
    _transplant(narrow(trunk, _trunk(width), images[:NARROWING]) if width < 1 else trunk, student)
    recalibrate(student, images)
    return student


def _trunk(width: float) -> list[Node]:
    return [node for node in architecture(width) if TRUNK.match(node.name)]


def _load(name: str) -> MobileNetV2Model:
    place, options = located("student.init", name, "scratch")
    with explained("student.init", name):
        model, found = MobileNetV2Model.from_pretrained(place, **options, **WEIGHTS)
    if found["missing_keys"]:  # transformers would leave them at random
        raise UserError(f"student.init = {name}: has no weights of a MobileNetV2; check the name or folder")
    if model.config.depth_multiplier != 1.0:
        raise UserError(f"student.init = {name}: is {model.config.depth_multiplier} wide; give the 1.0 network")
    return model.eval()


def _copy_trunk(student: Network, source: MobileNetV2Model) -> None:
    """Copies stem and blocks 0 to 9, batch norm folded; the input range becomes 0..1 instead of MobileNetV2's -1..1."""
    layers = [source.conv_stem.first_conv, source.conv_stem.conv_3x3, source.conv_stem.reduce_1x1]
    for block in source.layer:
        layers += [block.expand_1x1, block.conv_3x3, block.reduce_1x1]
    targets = [n for n in student.nodes if n.name in student.layers and TRUNK.match(n.name)]
    for node, layer in zip(targets, layers, strict=False):
        norm, op = layer.normalization, student.ops[node.name]
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        weight = (layer.convolution.weight * gain.view(-1, 1, 1, 1)).detach()
        bias = (norm.bias - norm.running_mean * gain).detach()
        if node.name == "stem":  # x' = 2 x - 1
            bias = bias - weight.sum(dim=(1, 2, 3))
            weight = weight * 2
            if student.channels != 3:
                weight = weight.sum(1, keepdim=True).repeat(1, student.channels, 1, 1) / student.channels
        op.conv.weight.data.copy_(weight)
        op.norm.bias.data.copy_(bias)


def _transplant(source: Network, target: Network) -> None:
    """Copies the trunk `source` into `target`, which is as wide or wider.

    Channels that the source lacks start at random with zero outgoing weights, so the features stay the same.
    """
    for name in source.layers:
        old, new = source.ops[name], target.ops[name]
        out, inputs = old.conv.weight.shape[:2]
        new.conv.weight.data[:out, :inputs] = old.conv.weight.data
        new.conv.weight.data[:out, inputs:] = 0
        for part in ("weight", "bias"):
            getattr(new.norm, part).data[:out] = getattr(old.norm, part).data
