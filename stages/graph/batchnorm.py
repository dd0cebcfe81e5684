"""Batch norm outside of training: recalibrated, folded into the convolution, or put back into a folded network."""

from dataclasses import replace

import torch
from torch import nn

from stages.graph.network import Network


def recalibrate(model: Network, images: torch.Tensor, batch: int = 16) -> None:
    """Replaces the running statistics by averages over `images` [N, C, H, W], as a network needs after pruning."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    model.train()
    with torch.no_grad():
        for chunk in images.split(batch):
            model(chunk)
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def reinsert(model: Network, images: torch.Tensor) -> None:
    """Gives every batch norm the statistics of `images`, and the weight and bias that undo them.

    So a pretrained network whose batch norm was folded computes what it did, and can be trained and pruned again. The
    batch norms are expected as they are initialized, but for the folded bias in `norm.bias`.
    """
    values = {"input": images}
    with torch.no_grad():
        for i, node in enumerate(model.nodes):
            op, inputs = model.ops[node.name], [values[name] for name in node.inputs]
            op.reinsert(*inputs)
            values[node.name] = op(*inputs)
            later = {name for following in model.nodes[i + 1 :] for name in following.inputs}
            values = {name: value for name, value in values.items() if name in later}  # all at once would be gigabytes


def fold(model: Network) -> Network:
    """The same function with every batch norm merged into the weights and bias of its convolution."""
    folded = Network([replace(n, norm=False) for n in model.nodes], model.channels)
    state = {f"ops.{name}.{key}": value for name, op in model.ops.items() for key, value in op.folded().items()}
    folded.load_state_dict(state)
    return folded.eval()
