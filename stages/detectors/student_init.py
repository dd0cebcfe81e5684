"""The student's initial weights: random, or a pretrained trunk made narrower or wider; patch embeddings by PCA."""

import math

import numpy as np
import torch

from stages.common.dataset import evenly
from stages.detectors import memory_bank
from stages.detectors.first_layer import over_time
from stages.detectors.student_network import EMBEDDING, SOURCES, architecture, set_pooling
from stages.detectors.trunks import Layers, Stage, load, mobilenet_v2, trunk_nodes
from stages.graph.batchnorm import recalibrate, reinsert
from stages.graph.narrow import narrow
from stages.graph.network import Network
from stages.graph.tensors import to_tensor
from stages.training.targets import PCA_PICTURES, principal_components

NARROWING = 24  # pictures that a narrower trunk is fitted on: a choice, bounds time and memory


def new_student(init: str, width: float, images: torch.Tensor, widest: float = math.inf) -> Network:
    """A student without memory banks; with a pretrained `init` its trunk computes the pretrained features as well as
    its width allows, which is `widest` at most.

    images: float [N, C, S, S] in 0..1, training samples on which batch norm is calibrated. Of grey frames a pretrained
    first layer sees the last one, and changes (first_layer.py). UserError for an `init` that can't be loaded.
    """
    channels = images.shape[1]
    stages, layers = found(init)
    student = Network(architecture(stages, width, widest), channels)
    set_pooling(student)
    if layers is None:
        recalibrate(student, images)
        return student
    trunk = pretrained(stages, layers, images)
    if width < 1:
        trunk = narrow(trunk, trunk_nodes(stages, width)[0], images[:NARROWING])
    transplant(trunk, student)
    return student.eval()


def widest_trunk(init: str, train_trunk: bool) -> float:
    """The largest width of a trunk: channels beyond those of a pretrained one are only of use where it is trained."""
    return math.inf if init == "scratch" or train_trunk else 1.0


def found(init: str) -> tuple[list[Stage], Layers | None]:
    """The stages that `student.init` names, and its layers unless it is scratch."""
    return (mobilenet_v2.STAGES, None) if init == "scratch" else load(init)


def pretrained(stages: list[Stage], layers: Layers, images: torch.Tensor) -> Network:
    """The trunk with its weights; the input range becomes 0..1 instead of -1..1, batch norm has the statistics of the
    images [N, C, S, S]."""
    trunk = Network(trunk_nodes(stages, 1)[0], images.shape[1])
    for (name, _), (weight, bias) in zip(trunk.layers.items(), layers, strict=False):
        if name == "stem":  # x' = 2 x - 1
            weight, bias = weight * 2, bias - weight.sum(dim=(1, 2, 3))
            if trunk.channels != 3:
                weight = over_time(weight, trunk.channels)
        trunk.ops[name].conv.weight.data.copy_(weight)
        trunk.ops[name].norm.bias.data.copy_(bias)
    reinsert(trunk, images)
    return trunk.eval()


def transplant(source: Network, target: Network) -> None:
    """Copies the trunk `source` into `target`, which is as wide or wider.

    Channels that the source lacks start at random with zero outgoing weights, so the features stay the same.
    """
    for name in source.layers:
        old, new = source.ops[name], target.ops[name]
        out, inputs = old.conv.weight.shape[:2]
        new.conv.weight.data[:out, :inputs] = old.conv.weight.data
        new.conv.weight.data[:out, inputs:] = 0
        for part in ("weight", "bias", "running_mean", "running_var"):
            getattr(new.norm, part).data[:out] = getattr(old.norm, part).data


@torch.inference_mode()
def pooled(body: Network, samples: np.ndarray, source: str):
    """The pooled features [n, C, h, w] of samples uint8 [N, S, S, C], batch by batch."""
    network = memory_bank.part(body, {f"pool_{source}"})
    for i in range(0, len(samples), 16):
        yield network(to_tensor(samples[i : i + 16]))


def project(body: Network, train: np.ndarray) -> None:
    """Makes the patch embeddings of a body the principal components of its own features on the samples `train`."""
    drawn = train[evenly(range(len(train)), PCA_PICTURES)]
    for source in SOURCES:
        mean, matrix = principal_components(pooled(body, drawn, source), EMBEDDING)
        conv = body.ops[f"embed_{source}"].conv
        weight = torch.zeros(conv.weight.shape[:2], dtype=torch.double)
        weight[: matrix.shape[1]] = matrix.t()
        conv.weight.data.copy_(weight[:, :, None, None])
        conv.bias.data.copy_(-weight @ mean)
