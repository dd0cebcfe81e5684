"""The student's memory bank: a coreset of its own patch embeddings, as layers that every runtime has.

The squared distance of an embedding f to the nearest embedding c of the bank is |f|² + min(|c|² - 2 c·f): a 1 x 1
convolution with a channel for each c, a minimum over channels, and a sum. That puts PatchCore (Roth et al., CVPR 2022)
into the graph. A student that learned the teacher's anomaly map instead was worse (docs/results-mtd.md): a small
network can't represent the distance to the nearest of thousands of patches as a function of the picture.
"""

import torch

from edge.errors import UserError
from stages.detectors.coreset import greedy_coreset, k_means_step, nearest
from stages.graph.channels import DIVISOR, make_divisible
from stages.graph.network import Network, Node
from stages.graph.tensors import deviation, flatten_patches, to_tensor

# patches that the greedy coreset chooses from: bounds its time, since each is compared with each chosen one; a choice,
# equal to the default of teacher.coreset_max_patches
CANDIDATES = 100_000


def bank_size(settings) -> int:
    """How many patch embeddings the bank holds: `student.bank` for width 1, scaled like the channels of its layers."""
    return make_divisible(settings.bank * settings.width)


def without_bank(student: Network) -> Network:
    """The network that is trained: `student` without its memory bank, with the outputs `mask` and `embed`."""
    kept: list[Node] = []
    wanted = {"mask", "embed"}
    for node in reversed(student.nodes):
        if node.name in wanted:
            kept.insert(0, node)
            wanted |= set(node.inputs)
    body = Network(kept, student.channels)
    body.load_state_dict({k: v for k, v in student.state_dict().items() if k.split(".")[1] in body.ops})
    return body.eval()


def mask_and_embedding(body, samples, progress=lambda x: x) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask logits [N, 1, h, w] and patch embeddings [N, D, h / 2, w / 2] of samples uint8 [N, S, S, C]."""
    found: list[torch.Tensor] = []
    with torch.inference_mode():
        for i in progress(range(0, len(samples), 16)):
            outputs = body(to_tensor(samples[i : i + 16]))
            if not found:  # all at once: small results between large temporaries would split the heap
                found = [torch.empty(len(samples), *output.shape[1:]) for output in outputs]
            for whole, output in zip(found, outputs, strict=True):
                whole[i : i + 16] = output
    return tuple(whole.clone() for whole in found)  # no longer tensors of inference mode


def choose_bank(embeddings: torch.Tensor, size: int, seed: int) -> torch.Tensor:
    """The memory bank [K, D] of patch embeddings [N, D, h, w]; K is `size`, or less where there are too few patches.

    A greedy coreset reaches the rare patches; one step of k-means then moves each to the mean of the patches nearest to
    it, which takes out the noise that the embeddings of a small network have. UserError for fewer than 8 patches.
    """
    patches = flatten_patches(embeddings)
    generator = torch.Generator().manual_seed(seed)
    drawn = patches[torch.randperm(len(patches), generator=generator)[:CANDIDATES].sort().values]
    size = min(size, len(drawn) // DIVISOR * DIVISOR)
    if not size:
        raise UserError(
            f"{len(drawn)} patches are too few for a memory bank; give more pictures or a larger input.size"
        )
    return k_means_step(patches, drawn[greedy_coreset(drawn, size)[0]])


def centre(body: Network, good) -> None:
    """Shifts the embeddings of a body, in place, so that their mean over the samples `good` is 0.

    Distances stay the same, while the terms that they are computed from, |f|² and |c|² - 2 c·f, become smaller: int8
    resolves them more finely.
    """
    embeddings = mask_and_embedding(body, good)[1]
    body.ops["embed"].conv.bias.data -= embeddings.mean((0, 2, 3))


def squared_distance(embeddings: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """Squared distance [N, 1, h, w] of patch embeddings [N, D, h, w] to the nearest one of the bank [K, D]."""
    n, _, h, w = embeddings.shape
    return nearest(flatten_patches(embeddings), bank)[0].view(n, 1, h, w)


def mask_and_distance(body, bank: torch.Tensor, samples) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask logits [N, 1, h, w] and squared distance to the bank [N, 1, h / 2, w / 2] of samples uint8 [N, S, S, C]."""
    mask, embeddings = mask_and_embedding(body, samples)
    return mask, squared_distance(embeddings, bank)


def with_bank(body: Network, computed_by, bank: torch.Tensor, val, fusion_weight: float) -> Network:
    """The deployable student: `body` with the memory bank [K, D] and score fusion, and the one output `score`.

    score [N, 1, h, w] at stride 8: `fusion_weight` times the mask plus 1 - `fusion_weight` times the squared distance,
    enlarged, where both have standard deviation 1 on the good samples `val`, uint8 [N, S, S, C], and the sum has mean
    0. The scaling is folded into the weights. computed_by: what computes the outputs of `body`: itself or its quantized
    form. UserError where mask or distance is constant.
    """
    mask, distance = mask_and_distance(computed_by, bank, val)
    distance_scale = (1 - fusion_weight) / deviation(distance, "the distance to the memory bank on good pictures")
    mask_scale = fusion_weight / deviation(mask, "the mask on good validation pictures")
    student = Network(
        [
            *body.nodes,
            Node("square", "square", ("embed",)),
            Node("length", "conv", ("square",), 1, norm=False, act=False),
            Node("bank", "conv", ("embed",), len(bank), norm=False, act=False),
            Node("nearest", "min", ("bank",)),
            Node("distance", "add", ("nearest", "length")),
            Node("distance_up", "up", ("distance",)),
            Node("score", "add", ("distance_up", "mask")),
        ],
        body.channels,
    )
    state = dict(body.state_dict())
    state["ops.mask.conv.weight"] = state["ops.mask.conv.weight"] * mask_scale
    mean = distance_scale * float(distance.mean()) + mask_scale * float(mask.mean())
    state["ops.mask.conv.bias"] = state["ops.mask.conv.bias"] * mask_scale - mean
    state["ops.length.conv.weight"] = torch.full((1, bank.shape[1], 1, 1), distance_scale)
    state["ops.length.conv.bias"] = torch.zeros(1)
    state["ops.bank.conv.weight"] = (-2 * distance_scale * bank)[:, :, None, None]
    state["ops.bank.conv.bias"] = distance_scale * bank.square().sum(1)
    student.load_state_dict(state)
    return student.eval()
