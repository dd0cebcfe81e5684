"""The trunks that a student can start from: one module for each family of pretrained networks.

A family is inverted residuals (Sandler et al., MobileNetV2, CVPR 2018) with relu6 and TensorFlow's padding, which int8
takes well; its pixels are -1..1. Its module says `matches(config)` of a config.json, and `read(name, place, options)`
gives the stages, and weight and bias of each convolution in the order of the nodes, batch norm folded.
"""

import importlib
import json
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import mul
from pathlib import Path
from types import ModuleType

import torch

from edge.errors import UserError
from stages.common.textfile import short
from stages.detectors.hub import explained, file, located
from stages.graph.channels import make_divisible
from stages.graph.network import Network, Node

STEM = 32  # channels of the first layer at width 1, of all families
FINE, DEEP = 8, 16  # strides of the features that a student uses

Layers = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Stage:
    """A run of inverted residual blocks, a row of the paper's table 2: the first block has `stride`, the others 1."""

    expand: int
    channels: int
    stride: int
    kernel: int
    blocks: int


def all_nodes(stages: Sequence[Stage], width: float) -> tuple[list[Node], list[str]]:
    """The nodes of a network whose channels are scaled by `width`, and the last one of each stage."""
    nodes, ends = [Node("stem", "conv", ("input",), make_divisible(STEM * width), 3, 2)], []
    before, index = STEM, 0
    for stage in stages:
        for repeat in range(stage.blocks):
            name, stride = f"b{index}", stage.stride if repeat == 0 else 1
            source = previous = nodes[-1].name
            inside = make_divisible(before * stage.expand * width)
            stream = make_divisible(stage.channels * width, up=True)  # cheap, and all that later blocks see
            if stage.expand != 1:
                nodes.append(Node(f"{name}_expand", "conv", (source,), inside))
                source = nodes[-1].name
            nodes.append(Node(f"{name}_depth", "conv", (source,), inside, stage.kernel, stride, depthwise=True))
            nodes.append(Node(f"{name}_project", "conv", (nodes[-1].name,), stream, act=False))
            if stride == 1 and before == stage.channels:
                nodes.append(Node(f"{name}_add", "add", (nodes[-1].name, previous)))
            before, index = stage.channels, index + 1
        ends.append(nodes[-1].name)
    return nodes, ends


def trunk_nodes(stages: Sequence[Stage], width: float) -> tuple[list[Node], dict[int, str]]:
    """The nodes of a student's trunk whose channels are scaled by `width`, and for the strides FINE and DEEP the node
    whose features a student uses.

    Those are the last ones at stride FINE, and the first ones of the last stage at stride DEEP, where the trunk ends:
    its further blocks cost as much as all between and knew less of objects.
    """
    strides = list(accumulate((stage.stride for stage in stages), mul, initial=2))[1:]
    last = len(strides) - 1 - strides[::-1].index(DEEP)
    nodes, ends = all_nodes([*stages[:last], replace(stages[last], blocks=1)], width)
    taps = dict(zip(strides, ends, strict=False))
    return nodes, {stride: taps[stride] for stride in (FINE, DEEP)}


def families() -> list[ModuleType]:
    """The modules of this package, one for each family."""
    return [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]


def load(name: str, key: str = "student.init", otherwise: str = "scratch") -> tuple[list[Stage], Layers]:
    """Stages and layers of a pretrained network: a hub name or a folder in hub layout; UserError if it is no trunk.

    key: the param that names it, which else can be `otherwise`.
    """
    place, options = located(key, name, otherwise)
    what = f"{key} = {short(name)}"
    with explained(key, name):
        config = json.loads(Path(file(place, "config.json", options)).read_text())
        for family in families():
            if family.matches(config):
                stages, layers = family.read(what, place, options)
                check_shapes(what, stages, layers)
                return stages, layers
    kind = config.get("architecture") or config.get("model_type")
    known = ", ".join(family.__name__.rpartition(".")[2] for family in families())
    raise UserError(f"{what}: is a {short(str(kind))}; a student starts from {known}, or scratch")


def check_shapes(what: str, stages: list[Stage], layers: Layers) -> None:
    """UserError unless the layers are those of the stages' trunk for pictures of three channels."""
    trunk = Network(trunk_nodes(stages, 1)[0])
    for (layer, conv), (weight, _) in zip(trunk.layers.items(), layers, strict=False):
        if weight.shape != conv.weight.shape:
            wanted, found = list(conv.weight.shape), list(weight.shape)
            raise UserError(f"{what}: layer {layer} has weights {found} instead of {wanted}; give another network")


def folded(state: dict[str, torch.Tensor], conv: str, norm: str, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the convolution `conv` with its batch norm merged; KeyError where the state lacks one."""
    gain = state[norm + ".weight"] / (state[norm + ".running_var"] + eps).sqrt()
    weight = state[conv + ".weight"] * gain.view(-1, 1, 1, 1)
    return weight, state[norm + ".bias"] - state[norm + ".running_mean"] * gain
