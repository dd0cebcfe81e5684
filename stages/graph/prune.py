"""Fisher pruning: the channels that change the output least for the multiply-accumulates they cost are removed.

Theis et al., "Faster gaze prediction with dense networks and Fisher pruning" (2018). torch-pruning knows which layers
share their channels and takes the channels out.
"""

from dataclasses import replace

import torch
import torch_pruning

from edge.errors import UserError
from stages.graph.batchnorm import recalibrate
from stages.graph.channels import DIVISOR
from stages.graph.network import Network, cost

KEPT = 0.25  # share of its channels that every layer keeps
ROUNDS = 2  # the sensitivities are measured again after each
REMOVES = (torch_pruning.prune_conv_out_channels, torch_pruning.prune_depthwise_conv_out_channels)


def sensitivity(student: Network, images: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """For every convolution the squared change of the outputs, each measured in its own deviation, to first order, when
    a channel gives its mean: [channels].

    The change of all pixels at once is estimated through random signs (Hutchinson): one backward pass.
    """
    layers, heads = student.layers, student.heads
    names = [n.name for n in student.nodes if n.name in layers and not n.depthwise and n.name not in heads]
    found = {name: torch.zeros(layers[name].out_channels) for name in names}
    generator = torch.Generator().manual_seed(seed)
    for part in images.split(16):
        values = student.activations(part)
        total = 0
        for head in (values[name] for name in heads):
            signs = torch.randint(0, 2, head.shape, generator=generator) * 2.0 - 1
            total = total + (head * signs).sum() / head.detach().std()
        gradients = torch.autograd.grad(total, [values[name] for name in names])
        for name, gradient in zip(names, gradients, strict=True):
            value = values[name].detach()
            change = (value - value.mean((0, 2, 3), keepdim=True)) * gradient
            found[name] += change.sum((2, 3)).square().sum(0)
    return found


def coupled(student: Network, image: torch.Tensor) -> list[tuple]:
    """Groups of layers that share their channels: (graph, a layer of it, how its channels are removed, names of all).

    Without those whose channels are outputs, or needed by an operation, or meet behind a concatenation those of a layer
    of another width; a depthwise layer there is in the group of each layer whose channels it has.
    """
    graph = torch_pruning.DependencyGraph().build_dependency(student, image)
    layers, depthwise = student.layers, {n.name for n in student.nodes if n.depthwise}
    names = {layer: name for name, layer in layers.items()}
    needed = [name for n in student.nodes if student.ops[n.name].needs_channels for name in n.inputs]
    kept = set().union(*(writers(student, name) for name in (*student.heads, *needed)))

    def members(group) -> list[str]:
        return list(dict.fromkeys(names[d.target.module] for d, _ in group if d.handler in REMOVES))

    def alike(group) -> bool:
        return len({layers[name].out_channels for name in members(group) if name not in depthwise}) == 1

    groups = []
    for group in graph.get_all_groups([layers[name] for name in kept], root_module_types=[torch.nn.Conv2d]):
        if alike(group):
            groups.append(group)
            continue
        for layer in (layers[name] for name in members(group) if name not in depthwise):
            remove = graph.get_pruner_of_module(layer).prune_out_channels
            groups.append(graph.get_pruning_group(layer, remove, list(range(layer.out_channels))))
    groups = [group for group in groups if alike(group) and kept.isdisjoint(members(group))]
    return [(graph, group[0].dep.target.module, group[0].dep.handler, members(group)) for group in groups]


def writers(student: Network, name: str) -> set[str]:
    """The layers whose channels the output of node `name` has."""
    if name in student.layers or name == "input":
        return {name} & student.layers.keys()
    inputs = next(n.inputs for n in student.nodes if n.name == name)
    return set().union(*(writers(student, before) for before in inputs))


def choose(student: Network, goal: int, size: int, prices: list[torch.Tensor], groups, least: dict) -> list[int]:
    """How many channels each group gives, cheapest per multiply-accumulate first, until no more than `goal` are left.

    prices: the sorted sensitivities of each group's channels. least: channels that every layer keeps.
    """
    channels, given = {n.name: n.channels for n in student.nodes if n.name in least}, [0] * len(groups)
    now = macs(student, channels, size)
    while now > goal:
        options = []
        for i, (*_, members) in enumerate(groups):
            fewer = channels | {name: channels[name] - DIVISOR for name in members}
            if all(fewer[name] >= least[name] for name in members):
                left = macs(student, fewer, size)
                price = float(prices[i][given[i] : given[i] + DIVISOR].sum())
                options.append((price / (now - left), i, left, fewer))
        if not options:
            break
        _, i, now, channels = min(options, key=lambda option: option[:2])
        given[i] += DIVISOR
    return given


def macs(student: Network, channels: dict[str, int], size: int) -> int:
    """Multiply-accumulates of the student with so many channels in its layers."""
    nodes = [replace(n, channels=channels.get(n.name, n.channels)) for n in student.nodes]
    return cost(nodes, size, size, student.channels)["macs"]


def prune(student: Network, ratio: float, images: torch.Tensor, seed: int = 0) -> Network:
    """The body of a student without the share `ratio` of its multiply-accumulates, batch norm recalibrated on `images`.

    images: float [N, 3, S, S] in 0..1. `student` itself is changed. UserError when `ratio` is more than all layers can
    give.
    """
    size = images.shape[-1]
    whole = student.cost(size, size)["macs"]
    least = {n.name: max(DIVISOR, KEPT * n.channels) for n in student.nodes if n.name in student.layers}
    for step in range(1, ROUNDS + 1 if ratio else 1):
        found, groups = sensitivity(student, images, seed), coupled(student, images[:1])
        ranked = [sum(found[name] for name in members if name in found).sort() for *_, members in groups]
        goal = round(whole * (1 - ratio * step / ROUNDS))
        counts = choose(student, goal, size, [r.values for r in ranked], groups, least)
        for (graph, layer, handler, _), rank, count in zip(groups, ranked, counts, strict=True):
            if count:
                graph.get_pruning_group(layer, handler, sorted(rank.indices[:count].tolist())).prune()
        layers = student.layers
        nodes = [replace(n, channels=layers[n.name].out_channels) if n.name in layers else n for n in student.nodes]
        smaller = Network(nodes, student.channels)
        smaller.load_state_dict(student.state_dict())
        student = smaller
        recalibrate(student, images)
        if (left := student.cost(size, size)["macs"]) > goal:
            raise UserError(
                f"compress.prune_ratio = {ratio}: no more than {int(100 * (1 - left / whole)) / 100} of the "
                f"multiply-accumulates can go, because every layer keeps {KEPT:.0%} of its channels and at least "
                f"{DIVISOR}; use less"
            )
    return student.eval()
