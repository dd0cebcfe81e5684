"""Fisher pruning: the channels that change the output least for the multiply-accumulates they cost are removed.

Theis et al., "Faster gaze prediction with dense networks and Fisher pruning" (2018). torch-pruning knows which layers
share their channels and takes the channels out.
"""

from dataclasses import replace

import torch
import torch_pruning

from edge.errors import UserError
from stages.graph.batchnorm import recalibrate
from stages.graph.network import Network, Node

TOGETHER = 8  # channels that go at once: what integer kernels work in
KEPT = 0.25  # share of its channels that every layer keeps
ROUNDS = 2  # the sensitivities are measured again after each
REMOVES = (torch_pruning.prune_conv_out_channels, torch_pruning.prune_depthwise_conv_out_channels)


def macs(nodes: list[Node], size: int) -> int:
    """Multiply-accumulates of all convolutions for one picture of `size` x `size`."""
    side, channels, total = {"input": size}, {"input": 3}, 0
    for node in nodes:
        source = node.inputs[0]
        side[node.name], channels[node.name] = side[source], channels[source]
        if node.kind == "conv":
            side[node.name], channels[node.name] = -(-side[source] // node.stride), node.channels
            inputs = 1 if node.depthwise else channels[source]
            total += side[node.name] ** 2 * node.kernel**2 * inputs * node.channels
        elif node.kind == "up":
            side[node.name] *= 2
    return total


def sensitivity(student: Network, images: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """For every convolution the squared change of the outputs, each measured in its own deviation, to first order, when
    a channel gives its mean: [channels].

    The change of all pixels at once is estimated through random signs (Hutchinson): one backward pass.
    """
    names = [n.name for n in student.nodes if n.kind == "conv" and not n.depthwise and n.name not in student.heads]
    found = {name: torch.zeros(student.ops[name].conv.out_channels) for name in names}
    generator = torch.Generator().manual_seed(seed)
    for part in images.split(16):
        values = student.activations(part)
        total = 0
        for head in student.outputs(values):
            signs = torch.randint(0, 2, head.shape, generator=generator) * 2.0 - 1
            total = total + (head * signs).sum() / head.detach().std()
        gradients = torch.autograd.grad(total, [values[name] for name in names])
        for name, gradient in zip(names, gradients, strict=True):
            value = values[name].detach()
            change = (value - value.mean((0, 2, 3), keepdim=True)) * gradient
            found[name] += change.sum((2, 3)).square().sum(0)
    return found


def coupled(student: Network, image: torch.Tensor) -> list[tuple]:
    """Groups of layers that share their channels: (a layer of it, how its channels are removed, names of all)."""
    graph = torch_pruning.DependencyGraph().build_dependency(student, image)
    names = {student.ops[n.name].conv: n.name for n in student.nodes if n.kind == "conv"}
    heads = [student.ops[name].conv for name in student.heads]
    found = []
    for group in graph.get_all_groups(ignored_layers=heads, root_module_types=[torch.nn.Conv2d]):
        members = [names.get(d.target.module) for d, _ in group if d.handler in REMOVES]
        root = group[0].dep
        found.append((graph, root.target.module, root.handler, list(dict.fromkeys(members))))
    return found


def choose(nodes: list[Node], goal: int, size: int, prices: list[torch.Tensor], groups, least: dict) -> list[int]:
    """How many channels each group gives, cheapest per multiply-accumulate first, until no more than `goal` are left.

    prices: the sorted sensitivities of each group's channels. least: channels that every layer keeps.
    """
    channels, given = {n.name: n.channels for n in nodes if n.kind == "conv"}, [0] * len(groups)

    def cost(counts: dict) -> int:
        return macs([replace(n, channels=counts[n.name]) if n.kind == "conv" else n for n in nodes], size)

    now = cost(channels)
    while now > goal:
        options = []
        for i, (*_, members) in enumerate(groups):
            fewer = channels | {name: channels[name] - TOGETHER for name in members}
            if all(fewer[name] >= least[name] for name in members):
                left = cost(fewer)
                price = float(prices[i][given[i] : given[i] + TOGETHER].sum())
                options.append((price / (now - left), i, left, fewer))
        if not options:
            break
        _, i, now, channels = min(options, key=lambda option: option[:2])
        given[i] += TOGETHER
    return given


def prune(student: Network, ratio: float, images: torch.Tensor, seed: int = 0) -> Network:
    """The body of a student without the share `ratio` of its multiply-accumulates, batch norm recalibrated on `images`.

    images: float [N, 3, S, S] in 0..1. `student` itself is changed. UserError when `ratio` is more than all layers can
    give.
    """
    size = images.shape[-1]
    whole = macs(student.nodes, size)
    least = {n.name: max(TOGETHER, KEPT * n.channels) for n in student.nodes if n.kind == "conv"}
    for step in range(1, ROUNDS + 1 if ratio else 1):
        found, groups = sensitivity(student, images, seed), coupled(student, images[:1])
        ranked = [sum(found[name] for name in members if name in found).sort() for *_, members in groups]
        goal = round(whole * (1 - ratio * step / ROUNDS))
        counts = choose(student.nodes, goal, size, [r.values for r in ranked], groups, least)
        for (graph, layer, handler, _), rank, count in zip(groups, ranked, counts, strict=True):
            if count:
                graph.get_pruning_group(layer, handler, sorted(rank.indices[:count].tolist())).prune()
        nodes = [
            replace(n, channels=student.ops[n.name].conv.out_channels) if n.kind == "conv" else n for n in student.nodes
        ]
        smaller = Network(nodes, student.channels)
        smaller.load_state_dict(student.state_dict())
        student = smaller
        recalibrate(student, images)
        if (left := macs(nodes, size)) > goal:
            raise UserError(
                f"compress.prune_ratio = {ratio}: no more than {int(100 * (1 - left / whole)) / 100} of the "
                f"multiply-accumulates can go, because every layer keeps {KEPT:.0%} of its channels and at least "
                f"{TOGETHER}; use less"
            )
    return student.eval()
