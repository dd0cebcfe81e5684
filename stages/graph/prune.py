"""Fisher pruning of channels: those go that change the output least for the time that is saved.

Theis et al., "Faster gaze prediction with dense networks and Fisher pruning" (2018). The torch-pruning library finds
the layers whose channels can only go together (a residual sum, a depthwise convolution) and removes them. Without 20 %
of the multiply-accumulates, ranked by these, a student on the magnetic tiles kept .934 of a validation AUROC of .940
before fine-tuning; ranked by batch norm gains or L2 norms instead it fell to .83 and .73, at 26 %.
"""

from dataclasses import replace
from itertools import product

import torch
import torch_pruning

from edge.errors import UserError
from stages.graph.batchnorm import recalibrate
from stages.graph.channels import DIVISOR
from stages.graph.network import Network, Node, cost, costs
from stages.graph.tensors import deviation

# choices
KEPT = 0.25  # the fraction of its channels that every layer keeps at least
ROUNDS = 2  # rounds of pruning; sensitivities are measured again before each
# what a kernel takes time for, in multiply-accumulates of a dense convolution; fitted to the table in docs/speed.md
# (XNNPACK, int8, an AMD EPYC with VNNI; on an Intel Xeon depthwise products cost more)
VALUE = 37  # to requantize and store a value of the output
DEPTHWISE = 8  # a multiply-accumulate of a depthwise convolution, for which there are no dot product instructions
LANES = 16  # output channels are computed so many at a time, the last ones of a layer as slowly as if they were
REMOVES = (torch_pruning.prune_conv_out_channels, torch_pruning.prune_depthwise_conv_out_channels)


def sensitivity(student: Network, images: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """For every convolution the sensitivity of each channel [channels]: the squared change of the outputs, in units of
    their standard deviations, when the channel is replaced by its mean; to first order, summed over `images`.

    Random signs for the output's pixels estimate the sum of all their squared changes in one backward pass
    (Hutchinson's estimator).
    """
    layers, heads = student.layers, student.heads
    names = [n.name for n in student.nodes if n.name in layers and not n.depthwise and n.name not in heads]
    found = {name: torch.zeros(layers[name].out_channels) for name in names}
    generator = torch.Generator().manual_seed(seed)
    for batch in images.split(16):
        values = student.activations(batch)
        total = 0
        for head in (values[name] for name in heads):
            deviation(head, "an output of the student to prune")
            signs = torch.randint(0, 2, head.shape, generator=generator) * 2.0 - 1
            total = total + (head * signs).sum() / head.detach().std()
        gradients = torch.autograd.grad(total, [values[name] for name in names])
        for name, gradient in zip(names, gradients, strict=True):
            value = values[name].detach()
            change = (value - value.mean((0, 2, 3), keepdim=True)) * gradient
            found[name] += change.sum((2, 3)).square().sum(0)
    return found


def coupled(student: Network, image: torch.Tensor) -> list[tuple]:
    """Groups of layers whose channels can only be removed together, as tuples (dependency graph, one of the layers, how
    its channels are removed, names of all).

    Left out are layers whose channels are outputs, or needed by an operation (a minimum over channels), or that would
    be grouped with one of another width. A depthwise layer behind a concatenation is in the group of each layer whose
    channels it takes.
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
    """The layers with weights whose channels arrive at the output of node `name`."""
    if name in student.layers or name == "input":
        return {name} & student.layers.keys()
    inputs = next(n.inputs for n in student.nodes if n.name == name)
    return set().union(*(writers(student, before) for before in inputs))


def choose(
    student: Network, goal: int, size: tuple[int, int], ranked: list[torch.Tensor], groups, least: dict
) -> list[int]:
    """How many channels to remove from each group, DIVISOR or LANES at a time and always where the sensitivity per
    saved work is lowest, until no more than `goal` multiply-accumulates are left or no layer can give more.

    ranked: each group's sensitivities in rising order. least: channels that every layer keeps.
    """
    channels, removed = {n.name: n.channels for n in student.nodes if n.name in least}, [0] * len(groups)
    now = work(student, channels, size)
    while macs(student, channels, size) > goal:
        options = []
        for (i, (*_, members)), step in product(enumerate(groups), (DIVISOR, LANES)):
            fewer = channels | {name: channels[name] - step for name in members}
            if all(fewer[name] >= least[name] for name in members):
                left = work(student, fewer, size)
                loss = float(ranked[i][removed[i] : removed[i] + step].sum())
                options.append((loss / max(now - left, 1), i, step, left, fewer))
        if not options:
            break
        _, i, step, now, channels = min(options, key=lambda option: option[:3])
        removed[i] += step
    return removed


def macs(student: Network, channels: dict[str, int], size: tuple[int, int]) -> int:
    """Multiply-accumulates of the student with the given number of channels by layer, for a picture of that size
    (height, width)."""
    return cost(_with_channels(student, channels), *size, student.channels)["macs"]


def work(student: Network, channels: dict[str, int], size: tuple[int, int]) -> int:
    """An estimate of the time that the student's convolutions take with the given number of channels by layer, in
    multiply-accumulates of a dense one."""
    total = 0
    for node, _, products, values in costs(_with_channels(student, channels), *size, student.channels):
        if node.name in student.layers:
            each = products * (DEPTHWISE if node.depthwise else 1) + VALUE * values  # of all channels
            total += each // node.channels * -(-node.channels // LANES) * LANES
    return total


def _with_channels(student: Network, channels: dict[str, int]) -> list[Node]:
    return [replace(n, channels=channels.get(n.name, n.channels)) for n in student.nodes]


def kept_channels(student: Network) -> dict[str, float]:
    """The channels that every layer keeps at least."""
    return {n.name: max(DIVISOR, KEPT * n.channels) for n in student.nodes if n.name in student.layers}


def too_much(ratio: float, most: float) -> str:
    """What is said of a `ratio` above the largest one that is possible."""
    return (
        f"compress.prune_ratio = {ratio}: no more than {int(100 * most) / 100} of the multiply-accumulates can go, "
        f"because every layer keeps {KEPT:.0%} of its channels and at least {DIVISOR}; use less, or a larger "
        "student.width"
    )


def prune(student: Network, ratio: float, images: torch.Tensor, seed: int = 0) -> Network:
    """A student (without its memory bank) less the fraction `ratio` of its multiply-accumulates; batch norm is
    recalibrated on `images`, fine-tuning is left to the caller.

    images: float [N, C, H, W] in 0..1. `student` itself is changed. UserError when the layers can't give that much.
    """
    size = images.shape[-2], images.shape[-1]
    whole = student.cost(*size)["macs"]
    least = kept_channels(student)
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
        if (left := student.cost(*size)["macs"]) > goal:
            raise UserError(too_much(ratio, 1 - left / whole))
    return student.eval()
