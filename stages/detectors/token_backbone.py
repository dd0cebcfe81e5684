"""Vision Transformers of which transformers has no backbone class, as backbones: the tokens of a block as a map."""

from types import SimpleNamespace

import torch
from torch import nn
from transformers import DeiTConfig, DeiTModel, PreTrainedConfig, ViTConfig, ViTModel, ViTMSNConfig, ViTMSNModel

from edge.errors import UserError

MODELS = {ViTConfig: ViTModel, DeiTConfig: DeiTModel, ViTMSNConfig: ViTMSNModel}
POOLER = {ViTConfig: {"add_pooling_layer": False}, DeiTConfig: {"add_pooling_layer": False}}  # not needed, often absent


class TokenBackbone(nn.Module):
    """Images [N, 3, H, W] to the maps [N, D, H / patch, W / patch] of `layers`, as Dinov2Backbone gives them: 0 is what
    goes into the first block, k what comes out of block k; each normalised by the network's last layer norm.

    Position embeddings are interpolated to the size of the picture.
    """

    def __init__(self, model: nn.Module, layers: list[int]):
        super().__init__()
        self.model, self.config = model, model.config
        self.config.out_indices = list(layers)

    @classmethod
    def build(cls, config: PreTrainedConfig, layers: list[int]) -> "TokenBackbone":
        """The untrained network of a config; UserError for layers that it doesn't have."""
        if sorted(set(layers)) != list(layers) or not 0 <= layers[0] <= layers[-1] <= config.num_hidden_layers:
            raise UserError(f"teacher.layers = {layers}: give rising numbers from 0 to {config.num_hidden_layers}")
        return cls(MODELS[type(config)](config, **POOLER.get(type(config), {})), layers).eval()

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        found = self.model(images, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
        rows, columns = (side // self.config.patch_size for side in images.shape[-2:])
        maps = []
        for layer in self.config.out_indices:
            tokens = self.model.layernorm(found[layer])[:, -rows * columns :]  # class tokens stand before the patches
            maps.append(tokens.transpose(1, 2).reshape(len(images), -1, rows, columns))
        return SimpleNamespace(feature_maps=maps)
