"""EfficientAD-S (stages/detectors/efficientad_network.py) with random weights, to be timed beside ours."""

import torch
import torch.nn.functional as F
from torch import nn

from stages.detectors.efficientad_network import MAPS, architecture, weigh
from stages.graph.network import Network

SIZE = 256  # side of the pictures


class EfficientAD(nn.Module):
    """Images [N, 3, 256, 256] to anomaly maps of the same size: the mean of both parts."""

    def __init__(self):
        super().__init__()
        self.network = Network(architecture("small", SIZE))
        weigh(self.network, dict.fromkeys(MAPS, (0.5, 0.0)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.interpolate(self.network(images), size=images.shape[-2:], mode="bilinear")
