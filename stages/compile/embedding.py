"""The second output of an exported file: an embedding at each place, from which the type of a defect is told.

A student's patch embeddings have 32 channels of each source, enough to tell good from bad. What kind of bad it is says
the wider deep layer of its trunk: its principal components, which one more convolution computes.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from stages.detectors.base import BATCH, EMBEDDING, Detector, Export
from stages.graph.batchnorm import fold
from stages.graph.network import Network, Node
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor
from stages.training.targets import principal_components

NAME = "embedding"
READERS = ("pool_deep", "deep")  # the nodes that take the deep features of a trunk: of a student, of a supervised one


def with_embedding(detector: Detector, export: Export, samples: np.ndarray, channels: int) -> Export | None:
    """The export with an embedding of at most `channels` beside its outputs; None for a kind that has none to give.

    samples: uint8 [N, H, W, C], good ones and such with synthetic defects, on which the components are found.
    """
    if isinstance(export.module, Network):
        return _of_nodes(export, samples, channels)
    with torch.inference_mode():
        if detector.embed(to_tensor(samples[:1])) is None:
            return None
    embed: Callable[[torch.Tensor], torch.Tensor | None] = detector.embed
    module = WithEmbedding(export.module, embed, *components(embed, samples, channels))
    return replace(export, module=module.eval(), outputs={**export.outputs, NAME: EMBEDDING})


def _of_nodes(export: Export, samples: np.ndarray, channels: int) -> Export | None:
    before = export.module
    assert isinstance(before, Network)
    reader = next((node for node in before.nodes if node.name in READERS), None)
    if reader is None:
        return None
    source = reader.inputs[0]
    weight, bias = components(lambda images: before.activations(images)[source], samples, channels)
    node = Node(NAME, "conv", (source,), len(weight), norm=False, act=False)
    folded = fold(before)
    network = Network([*folded.nodes, node], folded.channels)
    own = {f"ops.{NAME}.conv.weight": weight[:, :, None, None], f"ops.{NAME}.conv.bias": bias}
    network.load_state_dict(folded.state_dict() | own)
    quantized = export.quantized
    if isinstance(quantized, QuantNetwork):  # every other tensor keeps its range, and so the map every bit
        quantized = QuantNetwork.calibrated(network.eval(), to_tensor(samples), quantized)
    outputs = {**export.outputs, NAME: EMBEDDING}
    return replace(export, module=network.eval(), quantized=quantized, outputs=outputs)


def components(embed: Callable, samples: np.ndarray, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [D, C] and bias [D] of the linear map from features [N, C, h, w], which `embed` gives of samples, to their
    half whitened principal components; each feature is first divided by its deviation, so that none is the loudest."""

    def batches() -> Iterator[torch.Tensor]:
        with torch.inference_mode():
            for i in range(0, len(samples), BATCH):
                yield embed(to_tensor(samples[i : i + BATCH]))

    sums = [(len(x), x.double().mean((2, 3)).sum(0), x.double().square().mean((2, 3)).sum(0)) for x in batches()]
    count, first, second = (sum(column) for column in zip(*sums, strict=True))
    mean, square = first / count, second / count
    spread = (square - mean.square()).clamp(min=0).sqrt()
    spread = spread.clamp(min=max(1e-3 * float(spread.max()), 1e-12))  # of a channel that says nothing
    scaled = (found / spread.float()[:, None, None] for found in batches())
    middle, matrix = principal_components(scaled, channels)
    weight = (matrix / spread[:, None]).t()
    return weight.float().contiguous(), (-(middle * spread) @ weight.t()).float()


class WithEmbedding(nn.Module):
    """A module with one more output, the components [N, D, h, w] of what `embed` gives of the images."""

    def __init__(self, module: nn.Module, embed: Callable, weight: torch.Tensor, bias: torch.Tensor):
        super().__init__()
        self.module, self.embed = module, embed
        self.register_buffer("weight", weight[:, :, None, None])
        self.register_buffer("bias", bias)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.module(images)
        found = torch.nn.functional.conv2d(self.embed(images), self.weight, self.bias)
        return (*(outputs if isinstance(outputs, tuple) else (outputs,)), found)
