"""What kinds that are one network of nodes have in common; apart from base.py, since the teacher needs no network."""

from pathlib import Path
from typing import Self

from stages.detectors.base import Detector
from stages.graph.network import Network


class NetworkDetector(Detector):
    """A kind that is one network of nodes and nothing else."""

    def __init__(self, network: Network):
        self.network = network.eval()

    def write(self, folder: Path) -> dict:
        self.network.save(folder)
        return {}

    @classmethod
    def read(cls, folder: Path, settings: dict) -> Self:
        return cls(Network.load(folder))
