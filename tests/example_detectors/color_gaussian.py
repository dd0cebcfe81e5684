"""The example of CONTRIBUTING: a Gaussian of the colours of patches (as PaDiM, Defard et al. 2021, without features).

The squared Mahalanobis distance of a patch's mean colour is a list of nodes: average pooling, a whitening 1 x 1
convolution, a square, a sum. So it can be int8, and its file is checked to the bit on XNNPACK, with no line here for
either.
"""

from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch

from stages.common.schema import Count, Section
from stages.detectors.base import MAP, Export, Run, check_samples
from stages.detectors.network_detector import NetworkDetector
from stages.graph.network import Network, Node
from stages.graph.tensors import flatten_patches, to_tensor

RIDGE = 1e-3  # a choice: added to the variances (of values in 0..1), which flat pictures lack


class Settings(Section):
    patch: Count  # side of a patch in pixels


class ColorGaussian(NetworkDetector):
    """How far the mean colour of a patch is from those of good pictures."""

    kind = "color_gaussian"
    Settings = Settings

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """The mean and covariance of all patches of `train`; nothing is chosen on `val`."""
        check_samples(train, "train")
        check_samples(val, "val")
        channels = train.shape[3]
        plain = {"norm": False, "act": False}
        nodes = [
            Node("patches", "pool", ("input",), kernel=settings.patch, stride=settings.patch, padding="valid"),
            Node("white", "conv", ("patches",), channels, **plain),
            Node("squares", "square", ("white",)),
            Node("distance", "conv", ("squares",), 1, **plain),
        ]
        network = Network(nodes, channels)
        with torch.no_grad():
            patches = flatten_patches(network.ops["patches"](to_tensor(train))).double()
            mean, covariance = patches.mean(0), torch.cov(patches.T).reshape(channels, channels)
            white = torch.linalg.inv(torch.linalg.cholesky(covariance + RIDGE * torch.eye(channels))).float()
            network.layers["white"].weight.copy_(white[:, :, None, None])
            network.layers["white"].bias.copy_(-white @ mean.float())
            network.layers["distance"].weight.fill_(1)
            network.layers["distance"].bias.fill_(0)
        return cls(network)

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, None]:
        return SimpleNamespace(patch=8), None

    def export(self) -> Export:
        return Export(self.network, {"distance": MAP})
