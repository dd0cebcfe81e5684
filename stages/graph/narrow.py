"""A pretrained trunk made narrower so that its features change least; a choice of channels alone would lose them.

The stream between blocks has no activation, so it keeps its principal components (as in SliceGPT, Ashkboos et al., ICLR
2024). Inside a block stay the channels that explain its output best (orthogonal least squares, Chen et al. 1989). Every
1 x 1 convolution is then fitted, from the input on, to what the wide one gives (as in He et al., ICCV 2017).
"""

from dataclasses import replace
from itertools import pairwise

import torch

from edge.errors import UserError
from stages.graph.batchnorm import fold, reinsert
from stages.graph.network import Network, Node
from stages.graph.tensors import flatten_patches

SAMPLES = 50_000  # positions that a fit looks at
RIDGE = 1e-4  # of the mean variance of an input


@torch.no_grad()
def narrow(source: Network, nodes: list[Node], images: torch.Tensor) -> Network:
    """The trunk `source` with the channels of `nodes`, which has the same layers with fewer channels.

    images: float [N, 3, S, S] in 0..1 whose features are to be kept.
    """
    thin, wide = Network([replace(n, norm=False) for n in nodes], source.channels), fold(source)
    for node in nodes:
        if not wide.ops[node.name].sums and node.name not in wide.layers:
            raise UserError(f"layer {node.name}: {node.kind} can't be narrowed; use student.init: scratch")
    values, found = wide.activations(images), {"input": images}
    bases = _bases(wide, nodes, values)
    target = {n.inputs[0]: n for n in nodes if wide.ops[n.name].sums}  # the sum that a projection goes into
    for node in nodes:
        old, new = wide.ops[node.name], thin.ops[node.name]
        if node.name in thin.layers:
            weight = torch.einsum("oc,o...->c...", bases[node.name], old.layer.weight)
            bias = old.layer.bias @ bases[node.name]
            if node.kernel == 1:
                weight = torch.einsum("oi...,ic->oc...", weight, bases[node.inputs[0]])
                if node.name in target:  # what is missing in the sum, so that errors don't add up
                    total = target[node.name]
                    wanted = _sample(values[total.name]) @ bases[total.name] - _sample(found[total.inputs[1]])
                else:
                    wanted = _sample(old.layer(values[node.inputs[0]])) @ bases[node.name]
                weight, bias = _fit(_sample(found[node.inputs[0]]), wanted, weight[:, :, 0, 0], bias)
                weight = weight[:, :, None, None]
            new.layer.weight.copy_(weight)
            new.layer.bias.copy_(bias)
        found[node.name] = new(*[found[name] for name in node.inputs])
    return _with_norm(thin, nodes, images)


def _bases(wide: Network, nodes: list[Node], values: dict) -> dict[str, torch.Tensor]:
    """For every node the matrix [old channels, new channels] that its new output is fitted to."""
    stream: dict[str, list[str]] = {}  # node: all values of the stream that it belongs to
    for node in nodes:
        if wide.ops[node.name].sums:
            branch, before = node.inputs
            stream[before].append(node.name)
            stream[branch] = stream[node.name] = stream[before]
        elif not node.act:
            stream[node.name] = [node.name]
    channels = {n.name: n.channels for n in nodes}
    bases = {}
    for name, members in stream.items():
        covariance = sum(torch.cov(_sample(values[member]).T.double()) for member in members)
        vectors = torch.linalg.eigh(covariance).eigenvectors.flip(1)
        bases[name] = vectors[:, : channels[members[0]]].float()
    for depth, project in pairwise(nodes):
        if project.name in wide.layers and not project.act:
            inside = _sample(values[depth.name])
            kept = select(inside, _sample(values[project.name]) @ bases[project.name], depth.channels)
            bases[depth.name] = bases[depth.inputs[0]] = torch.eye(inside.shape[1])[:, kept.sort().values]
    return bases


def select(inputs: torch.Tensor, outputs: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of `count` columns of `inputs` [n, i], each the one that helps the least squares fit of `outputs` [n, o]
    most."""
    x, y = (inputs - inputs.mean(0)).double(), (outputs - outputs.mean(0)).double()
    gram, cross = x.T @ x, x.T @ y
    least = 1e-9 * gram.diagonal().max()
    kept: list[int] = []
    for _ in range(count):
        gain = cross.square().sum(1) / gram.diagonal().clamp(min=least)
        gain[kept] = -1
        best = int(gain.argmax())
        kept.append(best)
        line = gram[best] / gram[best, best].clamp(min=least)
        cross = cross - line.outer(cross[best])
        gram = gram - line.outer(gram[best])
    return torch.tensor(kept)


def _fit(inputs: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor):
    """The weights [o, i] and bias [o] nearest to the given ones that give `wanted` [n, o] for `inputs` [n, i]."""
    middle = inputs.mean(0)
    left = wanted - inputs @ weight.T - bias
    x, y = (inputs - middle).double(), (left - left.mean(0)).double()
    gram = x.T @ x
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    change = torch.linalg.solve(gram + ridge, x.T @ y).T.float()
    return weight + change, bias + left.mean(0) - change @ middle


def _sample(value: torch.Tensor) -> torch.Tensor:
    lines = flatten_patches(value)
    return lines[:: -(-len(lines) // SAMPLES)]


def _with_norm(folded: Network, nodes: list[Node], images: torch.Tensor) -> Network:
    """The same function with batch norm that training can start from."""
    model = Network(nodes, folded.channels)
    for name, layer in folded.layers.items():
        model.ops[name].layer.weight.data.copy_(layer.weight)
        model.ops[name].norm.bias.data.copy_(layer.bias)
    reinsert(model, images)
    return model.eval()
