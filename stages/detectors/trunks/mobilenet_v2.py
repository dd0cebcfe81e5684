"""MobileNetV2 of width 1 (Sandler et al., CVPR 2018), with transformers' names; from scratch its `STAGES` alone."""

from edge.errors import UserError
from stages.detectors.hub import WEIGHTS
from stages.detectors.trunks import Layers, Stage, folded

STAGES = [  # table 2 of the paper
    Stage(1, 16, 1, 3, 1),
    Stage(6, 24, 2, 3, 2),
    Stage(6, 32, 2, 3, 3),
    Stage(6, 64, 2, 3, 4),
    Stage(6, 96, 1, 3, 3),
    Stage(6, 160, 2, 3, 3),
    Stage(6, 320, 1, 3, 1),
]


def matches(config: dict) -> bool:
    return config.get("model_type") == "mobilenet_v2"


def read(what: str, place: str, options: dict) -> tuple[list[Stage], Layers]:
    from transformers import MobileNetV2Model  # seconds to import, and a trunk from scratch needs none

    model, found = MobileNetV2Model.from_pretrained(place, **options, **WEIGHTS)
    if found["missing_keys"]:  # transformers would leave them at random
        raise UserError(f"{what}: has no weights of a MobileNetV2; check the name or folder")
    if model.config.depth_multiplier != 1.0:
        raise UserError(f"{what}: is {model.config.depth_multiplier} wide; give the 1.0 network")
    state, eps = model.state_dict(), model.config.layer_norm_eps
    order = [f"conv_stem.{part}" for part in ("first_conv", "conv_3x3", "reduce_1x1")]
    for block in range(len(model.layer)):
        order += [f"layer.{block}.{part}" for part in ("expand_1x1", "conv_3x3", "reduce_1x1")]
    return STAGES, [folded(state, f"{layer}.convolution", f"{layer}.normalization", eps) for layer in order]
