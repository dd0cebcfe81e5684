"""What kinds that are one network of nodes have in common; apart from base.py, since the teacher needs no network."""

from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from stages.detectors.base import Detector
from stages.graph import streaming
from stages.graph.network import Network


class NetworkDetector(Detector):
    """A kind that is one network of nodes and nothing else."""

    def __init__(self, network: Network):
        self.network = network.eval()

    def run(self, module: nn.Module, images: torch.Tensor) -> Any:
        """Of a network with states at the last frame of each clip, all of whose frames it gets."""
        if isinstance(module, Network) and module.states:
            return module.outputs(streaming.last(streaming.run(module), module, images))
        return super().run(module, images)

    def write(self, folder: Path) -> dict:
        self.network.save(folder)
        return {}

    @classmethod
    def read(cls, folder: Path, settings: dict) -> Self:
        return cls(Network.load(folder))
