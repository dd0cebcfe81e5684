"""Small students with random weights, for the tests."""

import numpy as np
import torch
from scipy import ndimage

from stages.detectors import memory_bank
from stages.detectors.student import Student
from stages.detectors.student_network import architecture, set_pooling
from stages.detectors.trunks.mobilenet_v2 import STAGES
from stages.graph.batchnorm import recalibrate
from stages.graph.network import Network
from stages.graph.tensors import to_tensor

WEIGHTS = {"fine": 0.4, "deep": 0.27, "mask": 0.33}  # of the parts of the map


def smooth(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures, float [count, 3, size, size] in 0..1."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(count, 3, size, size)), (0, 0, 2, 2))
    return torch.tensor(np.clip(noise / noise.std() * 0.2 + 0.5, 0, 1), dtype=torch.float32)


def pictures(count: int, size: int, seed: int = 0) -> np.ndarray:
    """The same as uint8 [count, size, size, 3]."""
    return np.rint(smooth(count, size, seed).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)


def body(width: float, channels: int = 3) -> Network:
    """A student without memory banks: a MobileNetV2 trunk with random weights, batch norm as it is initialized."""
    student = Network(architecture(STAGES, width), channels)
    set_pooling(student)
    return student


def detector(student: Network, images: np.ndarray, entries: int = 16) -> Student:
    """The student with memory banks of what it says of `images`, uint8 [N, S, S, C]: `entries` deep embeddings, half as
    many fine ones; batch norm calibrated on them."""
    recalibrate(student, to_tensor(images))
    banks = memory_bank.choose_banks(memory_bank.outputs(student, images), entries, 0)
    network, fusion = memory_bank.with_banks(student, student, banks, images, WEIGHTS)
    return Student(network, {"fusion": fusion})


def with_bank(student: Network, images: np.ndarray, entries: int = 16) -> Network:
    """The network of that detector, whose one output is `score`."""
    return detector(student, images, entries).network


def whole(width: float, size: int, seed: int = 0) -> Network:
    """A deployable student with random weights."""
    torch.manual_seed(seed)
    return with_bank(body(width), pictures(16, size, seed))


def lively(width: float, seed: int = 0) -> Network:
    """The body of a student with random weights whose batch norms all differ from the identity."""
    torch.manual_seed(seed)
    student = body(width)
    recalibrate(student, smooth(4, 64))
    for norm in (m for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.uniform_(-0.5, 0.5)
        norm.running_mean += torch.randn_like(norm.running_mean) * 0.1
    return student.eval()
