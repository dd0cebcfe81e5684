"""EfficientNet-Lite and MobileNetV2 as a teacher's backbone, whole, by the names that a student starts from."""

from collections.abc import Sequence
from dataclasses import astuple, replace
from types import SimpleNamespace

import torch
from torch import nn
from transformers import PreTrainedConfig

from edge.errors import UserError
from stages.detectors.trunks import Layers, Stage, all_nodes
from stages.graph.network import Network


class TrunkConfig(PreTrainedConfig):
    """The stages of a trunk, saved beside its weights as transformers saves the config of a network."""

    model_type = "inverted_residuals"

    def __init__(self, stages: Sequence[Sequence[int]] = (), out_indices: Sequence[int] = (), **others):
        super().__init__(**others)
        self.stages, self.out_indices = [list(stage) for stage in stages], list(out_indices)


class TrunkBackbone(nn.Module):
    """Images [N, 3, H, W] in -1..1 to the maps of `layers`: 0 is the first convolution, k the end of stage k."""

    def __init__(self, config: TrunkConfig):
        super().__init__()
        nodes, ends = all_nodes([Stage(*stage) for stage in config.stages], 1)
        taps = ["stem", *ends]
        if sorted(set(config.out_indices) & set(range(len(taps)))) != config.out_indices:
            raise UserError(f"teacher.layers = {config.out_indices}: give rising numbers from 0 to {len(ends)}")
        self.config, self.taps = config, [taps[layer] for layer in config.out_indices]
        last = next(i for i, node in enumerate(nodes) if node.name == self.taps[-1])
        self.network = Network([replace(node, norm=False) for node in nodes[: last + 1]])  # folded into the weights

    @classmethod
    def build(cls, config: TrunkConfig, layers: list[int]) -> "TrunkBackbone":
        """The untrained network of a config; UserError for layers that it doesn't have."""
        config.out_indices = list(layers)
        return cls(config).eval()

    @classmethod
    def pretrained(cls, stages: list[Stage], layers: Layers, wanted: list[int]) -> "TrunkBackbone":
        """With the weights that `trunks.load` read; those behind the last wanted stage are left out."""
        backbone = cls.build(TrunkConfig([astuple(stage) for stage in stages]), wanted)
        for conv, (weight, bias) in zip(backbone.network.layers.values(), layers, strict=False):
            conv.weight.data.copy_(weight)
            conv.bias.data.copy_(bias)
        return backbone

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        values = self.network.activations(images)
        return SimpleNamespace(feature_maps=[values[name] for name in self.taps])
