"""The student's memory banks: coresets of its own patch embeddings, as layers that every runtime has.

The squared distance of an embedding f to the nearest embedding c of a bank is |f|² + min(|c|² - 2 c·f): a 1 x 1
convolution with a channel for each c, a minimum over channels, and a sum. That puts PatchCore (Roth et al., CVPR 2022)
into the graph. Of |c|² the distance that is to be expected at c is subtracted (local_density.py). A student that
learned the teacher's anomaly map instead was worse (docs/results-mtd.md): a small network can't represent the distance
to the nearest of thousands of patches as a function of the picture.
"""

from typing import NamedTuple

import torch

from edge.errors import UserError
from stages.detectors import score_fusion
from stages.detectors.coreset import StreamedCoreset, greedy_coreset, k_means_step, nearest
from stages.detectors.local_density import expected_distances
from stages.detectors.student_network import SOURCES
from stages.graph.channels import DIVISOR, make_divisible
from stages.graph.network import Network, Node
from stages.graph.tensors import flatten_patches, listed, to_tensor

CANDIDATES = 60_000  # patches that a greedy coreset chooses from at once: a choice, bounds its time


class Bank(NamedTuple):
    """entries: patch embeddings [K, D]. expected: the squared distance [K] of a good patch whose nearest one it is."""

    entries: torch.Tensor
    expected: torch.Tensor


def bank_size(settings) -> int:
    """How many deep patch embeddings are kept: `student.bank` for width 1, scaled like the channels of its layers."""
    return make_divisible(settings.bank * settings.width)


def needed(network: Network, wanted: set[str]) -> list[Node]:
    """The nodes `wanted`, and those that they need."""
    kept: list[Node] = []
    for node in reversed(network.nodes):
        if node.name in wanted:
            kept.insert(0, node)
            wanted = wanted | set(node.inputs)
    return kept


def part(network: Network, wanted: set[str]) -> Network:
    """The nodes that the outputs `wanted` need, with their weights."""
    out = Network(needed(network, wanted), network.channels)
    out.load_state_dict({k: v for k, v in network.state_dict().items() if k.split(".")[1] in out.ops})
    return out.eval()


def without_banks(student: Network) -> Network:
    """The network that is trained: `student` without its memory banks; its outputs are the mask, where there is one,
    and the patch embeddings."""
    return part(student, {name for name in ("mask", *map("embed_{}".format, SOURCES)) if name in student.ops})


def without_mask(body: Network) -> Network:
    """What a student starts as: the nodes of a body that its patch embeddings need."""
    return part(body, {f"embed_{source}" for source in SOURCES})


def outputs(body, samples, progress=lambda x: x) -> dict[str, torch.Tensor]:
    """What a network without memory banks, or its quantized form, says of samples uint8 [N, S, S, C], by name: mask
    logits [N, 1, h, w] and patch embeddings [N, D, h / 2, w / 2]."""
    found: list[torch.Tensor] = []
    with torch.inference_mode():
        for i in progress(range(0, len(samples), 16)):
            values = listed(body(to_tensor(samples[i : i + 16])))
            if not found:  # all at once: small results between large temporaries would split the heap
                found = [torch.empty(len(samples), *value.shape[1:]) for value in values]
            for whole, value in zip(found, values, strict=True):
                whole[i : i + 16] = value
    names = getattr(body, "network", body).heads
    return {name: whole.clone() for name, whole in zip(names, found, strict=True)}  # no tensors of inference mode


def embeddings(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The patch embeddings among outputs, by their source."""
    return {source: found[f"embed_{source}"] for source in SOURCES}


def choose_bank(patches: torch.Tensor, size: int, seed: int) -> Bank:
    """The memory bank of K patch embeddings, of [N, D, h, w]; K is `size`, or less where there are too few patches.

    A greedy coreset of all patches reaches the rare ones; one step of k-means then moves each to the mean of the
    patches nearest to it, which takes out the noise that the embeddings of a small network have. The coreset starts at
    a patch drawn by `seed`. UserError for fewer than 8 patches.
    """
    maps, patches = patches, flatten_patches(patches)
    size = min(size, len(patches) // DIVISOR * DIVISOR)
    if not size:
        raise UserError(
            f"{len(patches)} patches are too few for a memory bank; give more pictures or a larger input.size"
        )
    stream = StreamedCoreset(size, max(CANDIDATES, 2 * size), lambda points: points)
    for chunk in patches.split(CANDIDATES // 2):
        stream.add(chunk)
    found = stream.points()
    start = int(torch.randint(len(found), (1,), generator=torch.Generator().manual_seed(seed)))
    entries = k_means_step(patches, found[greedy_coreset(found, size, start)[0]])
    return Bank(entries, expected_distances(maps, entries))


def choose_banks(found: dict[str, torch.Tensor], size: int, seed: int) -> dict[str, Bank]:
    """A memory bank for each source of patch embeddings in the outputs on training samples: `size` deep ones, and half
    as many fine ones: a choice (with a quarter AUPRO on the tiles fell by .7 to .9 points)."""
    sizes = {"fine": max(DIVISOR, size // 2 // DIVISOR * DIVISOR), "deep": size}
    return {source: choose_bank(patches, sizes[source], seed) for source, patches in embeddings(found).items()}


def centre(body: Network, good) -> None:
    """Shifts the embeddings of a body, in place, so that their mean over the samples `good` is 0.

    Distances stay the same, while the terms that they are computed from, |f|² and |c|² - 2 c·f, become smaller: int8
    resolves them more finely.
    """
    for source, patches in embeddings(outputs(body, good)).items():
        body.ops[f"embed_{source}"].conv.bias.data -= patches.mean((0, 2, 3))


def excess_distance(patches: torch.Tensor, bank: Bank) -> torch.Tensor:
    """By how much the squared distance of patch embeddings [N, D, h, w] to an entry of the bank is larger than expected
    there, or smaller, as [N, 1, h, w]: the least of all entries."""
    n, _, h, w = patches.shape
    found = nearest(flatten_patches(patches), bank.entries, -bank.expected)[0]
    return found.view(n, 1, h, w)


def parts(computed_by, banks: dict[str, Bank], samples) -> score_fusion.Parts:
    """The parts of a student's map of samples uint8 [N, S, S, C]: the excess distance to each of the memory banks and,
    where there is one, the mask. computed_by: a network without memory banks, or its quantized form."""
    found = outputs(computed_by, samples)
    maps = {source: excess_distance(found[f"embed_{source}"], bank) for source, bank in banks.items()}
    return maps | {name: value for name, value in found.items() if name == "mask"}


def with_banks(
    body: Network, computed_by, banks: dict[str, Bank], val, weights: dict[str, float]
) -> tuple[Network, dict]:
    """The deployable student, whose one output `score` [N, 1, h, w] at stride 8 is the weighted sum of its normalised
    parts (score_fusion.py); and each part's `weight`, `mean` and `level` on the good samples `val`, uint8 [N, S, S, C].

    All that is folded into the weights of layers. Without memory banks the mask is all, and names the output.
    computed_by: what computes the outputs of `body`: itself or its quantized form.
    """
    maps = parts(computed_by, banks, val)
    fusion = {name: {"weight": weights[name]} | values for name, values in score_fusion.normalisation(maps).items()}
    scale = {name: values["weight"] / values["level"] for name, values in fusion.items()}
    shift = sum(scale[name] * values["mean"] for name, values in fusion.items())
    body = part(body, {f"embed_{source}" for source in banks} | ({"mask"} & maps.keys()))
    nodes, state = list(body.nodes), dict(body.state_dict())
    for source, bank in banks.items():
        nodes += [
            Node(f"square_{source}", "square", (f"embed_{source}",)),
            Node(f"length_{source}", "conv", (f"square_{source}",), 1, norm=False, act=False),
            Node(f"bank_{source}", "conv", (f"embed_{source}",), len(bank.entries), norm=False, act=False),
            Node(f"nearest_{source}", "min", (f"bank_{source}",)),
            Node(f"distance_{source}", "add", (f"nearest_{source}", f"length_{source}")),
        ]
        state[f"ops.length_{source}.conv.weight"] = torch.full((1, bank.entries.shape[1], 1, 1), scale[source])
        state[f"ops.length_{source}.conv.bias"] = torch.zeros(1)
        state[f"ops.bank_{source}.conv.weight"] = (-2 * scale[source] * bank.entries)[:, :, None, None]
        state[f"ops.bank_{source}.conv.bias"] = scale[source] * (bank.entries.square().sum(1) - bank.expected)
    if banks:
        nodes.append(Node("distance", "add", tuple(f"distance_{source}" for source in banks)))
    if "mask" in maps:
        if banks:
            nodes += [Node("distance_up", "up", ("distance",)), Node("score", "add", ("distance_up", "mask"))]
        state["ops.mask.conv.weight"] = state["ops.mask.conv.weight"] * scale["mask"]
        state["ops.mask.conv.bias"] = state["ops.mask.conv.bias"] * scale["mask"] - shift
    else:
        nodes.append(Node("score", "up", ("distance",)))
        state["ops.length_deep.conv.bias"] -= shift
    student = Network(nodes, body.channels)
    student.load_state_dict(state)
    return student.eval(), fusion
