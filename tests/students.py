"""Small students with random weights, for the tests."""

import numpy as np
import torch
from scipy import ndimage

from stages.detectors import memory_bank
from stages.detectors.student_network import architecture
from stages.graph.batchnorm import recalibrate
from stages.graph.network import Network
from stages.graph.tensors import to_tensor


def smooth(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures, float [count, 3, size, size] in 0..1."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(count, 3, size, size)), (0, 0, 2, 2))
    return torch.tensor(np.clip(noise / noise.std() * 0.2 + 0.5, 0, 1), dtype=torch.float32)


def pictures(count: int, size: int, seed: int = 0) -> np.ndarray:
    """The same as uint8 [count, size, size, 3]."""
    return np.rint(smooth(count, size, seed).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)


def with_bank(student: Network, images: np.ndarray, entries: int = 16) -> Network:
    """The student with a memory bank of what it says about `images`, uint8 [N, S, S, 3]."""
    recalibrate(student, to_tensor(images))
    chosen = memory_bank.choose_bank(memory_bank.mask_and_embedding(student, images)[1], entries, 0)
    return memory_bank.with_bank(student, student, chosen, images, 0.33)


def whole(width: float, size: int, seed: int = 0) -> Network:
    """A deployable student with random weights."""
    torch.manual_seed(seed)
    return with_bank(Network(architecture(width)), pictures(16, size, seed))


def lively(width: float, seed: int = 0) -> Network:
    """The body of a student with random weights whose batch norms all differ from the identity."""
    torch.manual_seed(seed)
    student = Network(architecture(width))
    recalibrate(student, smooth(4, 64))
    for norm in (m for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.uniform_(-0.5, 0.5)
        norm.running_mean += torch.randn_like(norm.running_mean) * 0.1
    return student.eval()
