"""The student's first weights: from nothing, or a pretrained MobileNetV2 trunk made narrower or wider."""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import MobileNetV2Model

from stages.common.errors import UserError
from stages.networks.batchnorm import recalibrate, reinsert
from stages.networks.student import Student, architecture

TRUNK = re.compile(r"stem$|b\d+_")  # names of its nodes


def new_student(init: str, width: float, images: torch.Tensor) -> Student:
    """A student of `width`; with a pretrained `init` the trunk keeps the most important channels.

    images: float [N, 3, S, S] in 0..1, training pictures that batch norm is calibrated on.
    """
    student = Student(architecture(width))
    if init == "scratch":
        return student
    full = Student(architecture(1.0))
    _copy_trunk(full, _load(init))
    reinsert(full, images)
    _transplant(full, student)
    recalibrate(student, images)
    return student


def _load(name: str) -> MobileNetV2Model:
    local = Path(name).is_dir()
    if not local and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise UserError(f"student.init = {name}: no such folder; give a folder, a Hugging Face name or scratch")
    try:
        model = MobileNetV2Model.from_pretrained(name, local_files_only=local)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"student.init = {name}: can't be loaded ({reason}); check the name or folder") from None
    if model.config.depth_multiplier != 1.0:
        raise UserError(f"student.init = {name}: is {model.config.depth_multiplier} wide; give the 1.0 network")
    return model.eval()


def _copy_trunk(student: Student, source: MobileNetV2Model) -> None:
    """Copies stem and blocks 0 to 9, batch norm folded; the network's input range -1..1 becomes 0..1."""
    layers = [source.conv_stem.first_conv, source.conv_stem.conv_3x3, source.conv_stem.reduce_1x1]
    for block in source.layer:
        layers += [block.expand_1x1, block.conv_3x3, block.reduce_1x1]
    targets = [n for n in student.nodes if n.kind == "conv" and TRUNK.match(n.name)]
    for node, layer in zip(targets, layers, strict=False):
        norm, op = layer.normalization, student.ops[node.name]
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        weight = (layer.convolution.weight * gain.view(-1, 1, 1, 1)).detach()
        bias = (norm.bias - norm.running_mean * gain).detach()
        if node.name == "stem":  # x' = 2 x - 1
            bias = bias - weight.sum(dim=(1, 2, 3))
            weight = weight * 2
        op.conv.weight.data.copy_(weight)
        op.norm.bias.data.copy_(bias)


def _transplant(source: Student, target: Student) -> None:
    """Fills the trunk of `target` from `source`: the most important channels of a wider one, all of a narrower one.

    Channels that the source lacks start at random and go nowhere (zero outgoing weights), so the function is kept.
    """
    kept = _choose(source, {n.name: n.channels for n in target.nodes})
    for node in source.nodes:
        if node.kind != "conv" or node.name not in kept:
            continue
        old, new = source.ops[node.name], target.ops[node.name]
        rows = kept[node.name]
        weight = old.conv.weight.data[rows]
        if node.depthwise or node.name == "stem":
            new.conv.weight.data[: len(rows)] = weight
        else:
            columns = kept[node.inputs[0]]
            new.conv.weight.data[: len(rows), : len(columns)] = weight[:, columns]
            new.conv.weight.data[: len(rows), len(columns) :] = 0
        for part in ("weight", "bias"):
            getattr(new.norm, part).data[: len(rows)] = getattr(old.norm, part).data[rows]


def _choose(source: Student, wanted: dict[str, int]) -> dict[str, torch.Tensor]:
    """For every trunk node the sorted source channels to keep; nodes that share channels share the choice."""
    group, importance = {}, {}
    for node in source.nodes:
        if not TRUNK.match(node.name):
            continue
        if node.kind == "add":  # the stream it continues
            group[node.name] = group[node.inputs[1]]
            for name, owner in list(group.items()):
                if owner == group[node.inputs[0]]:
                    group[name] = group[node.name]
            continue
        group[node.name] = group[node.inputs[0]] if node.depthwise else node.name
    for node in source.nodes:
        if node.kind == "conv" and node.name in group:
            gain = source.ops[node.name].norm.weight.data.abs()
            importance[group[node.name]] = importance.get(group[node.name], 0) + gain / gain.mean()
    kept = {}
    for name, owner in group.items():
        score = importance[owner]
        count = min(len(score), wanted[owner])
        kept[name] = score.topk(count).indices.sort().values
    return kept
