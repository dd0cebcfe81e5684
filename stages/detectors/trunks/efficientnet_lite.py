"""EfficientNet-Lite0 to 4 (Liu, 2020; Tan & Le, ICML 2019, without squeeze-and-excitation and swish), as timm names it.

https://huggingface.co/timm/tf_efficientnet_lite0.in1k: those that timm trained itself, without tf_, have other padding,
another eps and another input range.
"""

import re

import torch
from safetensors.torch import load_file

from edge.errors import UserError
from stages.detectors.hub import file
from stages.detectors.trunks import Layers, Stage, folded

STRIDES, EPS = (1, 2, 2, 2, 1, 2, 1), 1e-3  # of the stages; of batch norm


def matches(config: dict) -> bool:
    return re.fullmatch(r"tf_efficientnet_lite[0-4]", str(config.get("architecture"))) is not None


def read(what: str, place: str, options: dict) -> tuple[list[Stage], Layers]:
    state = {key: value.float() for key, value in load_file(file(place, "model.safetensors", options)).items()}
    try:
        found = stages(state)
        return found, layers(state, found)
    except KeyError as missing:
        raise UserError(f"{what}: has no weights {missing}; check the name or folder") from None


def stages(state: dict[str, torch.Tensor]) -> list[Stage]:
    """The stages that the weights are for: Lite1 to 4 are deeper and wider than Lite0."""
    found = []
    for stage, stride in enumerate(STRIDES):
        first = f"blocks.{stage}.0."
        blocks = {key.split(".")[2] for key in state if key.startswith(f"blocks.{stage}.")}
        depth, last = state[first + "conv_dw.weight"], "conv_pwl.weight" if stage else "conv_pw.weight"
        expand = len(depth) // state[first + "conv_pw.weight"].shape[1] if stage else 1
        found.append(Stage(expand, len(state[first + last]), stride, depth.shape[-1], len(blocks)))
    return found


def layers(state: dict[str, torch.Tensor], found: list[Stage]) -> Layers:
    out = [folded(state, "conv_stem", "bn1", EPS)]
    for stage, spec in enumerate(found):
        order = ("conv_pw", "conv_dw", "conv_pwl") if spec.expand != 1 else ("conv_dw", "conv_pw")
        for block in range(spec.blocks):
            prefix = f"blocks.{stage}.{block}."
            out += [folded(state, prefix + conv, f"{prefix}bn{i}", EPS) for i, conv in enumerate(order, 1)]
    return out
