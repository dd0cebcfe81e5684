"""Quantization-aware training of a network of nodes."""

from collections.abc import Callable

import torch

from stages.graph.batchnorm import fold
from stages.graph.network import Network
from stages.graph.quantize import QuantNetwork
from stages.training.torch_setup import accelerator

RATE = 0.25  # of the learning rate in float, since it starts from a trained network: a choice
TRAINED = "learned by quantization-aware training"  # in model.json


def with_fake_quantization(network: Network, images: torch.Tensor, minimise: Callable) -> QuantNetwork:
    """`network` after training with fake quantization, batch norm folded. The ranges of activations, first those of
    `images`, float [N, C, H, W] in 0..1, follow the first epoch and are fixed from then on.

    minimise: trains the model that it gets, and calls what it gets as well after each epoch.
    """
    quantized = QuantNetwork(fold(network)).to(accelerator(), memory_format=torch.channels_last)
    quantized.train()
    with torch.no_grad():
        for batch in images.split(16):
            quantized(batch.to(accelerator()))
    minimise(quantized, lambda epoch: quantized.freeze_ranges())
    quantized.freeze_ranges()
    return quantized.cpu().eval()
