"""Quantization-aware training of a network of nodes on the loss that it was trained with in float."""

from collections.abc import Callable

import torch

from stages.graph.batchnorm import fold
from stages.graph.network import Network
from stages.graph.quantize import QuantNetwork
from stages.training.loop import minimise
from stages.training.torch_setup import accelerator

RATE = 0.25  # of the learning rate in float, since it starts from a trained network: a choice


def with_fake_quantization(network: Network, images: torch.Tensor, loss: Callable, data, settings, run) -> QuantNetwork:
    """`network` after `settings.qat_epochs` with fake quantization, batch norm folded. The ranges of activations, first
    those of `images`, float [N, C, S, S] in 0..1, follow the first epoch and are fixed from then on.

    loss: of a model and the indices of a batch of `data`. settings: its `batch` and `lr` are those in float.
    """
    quantized = QuantNetwork(fold(network)).to(accelerator(), memory_format=torch.channels_last)
    quantized.train()
    with torch.no_grad():
        for batch in images.split(16):
            quantized(batch.to(accelerator()))
    minimise(
        quantized,
        lambda pick: loss(quantized, pick),
        data,
        settings.qat_epochs,
        settings.batch,
        settings.lr * RATE,
        run.seed,
        run.stage,
        "qat",
        run.log,
        lambda epoch: quantized.freeze_ranges(),
        settings=repr(settings),
    )
    quantized.freeze_ranges()
    return quantized.cpu().eval()
