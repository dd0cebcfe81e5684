"""The student's memory bank: a coreset of its own patch features, as layers that every runtime has.

The squared distance of a feature f to the nearest entry c is |f|² + min(|c|² - 2 c·f): a 1 x 1 convolution with one
channel per entry, a minimum over channels, and a sum. It is PatchCore (Roth et al., CVPR 2022) inside the graph, which
a small network learns far better than the distance itself as a function of the picture.
"""

import torch

from edge.errors import UserError
from stages.detectors.coreset import greedy_coreset, k_means_step, nearest
from stages.graph.network import Network, Node
from stages.graph.tensors import flatten_patches, to_tensor

CANDIDATES = 100_000  # patches that the coreset is chosen from, evenly drawn
TOGETHER = 8  # entries: what integer kernels work in


def entries(student) -> int:
    """The size of the bank: what the params of the student say for width 1, scaled as its channels are."""
    return max(TOGETHER, round(student.bank * student.width) // TOGETHER * TOGETHER)


def body(student: Network) -> Network:
    """The part that is trained: `student` without its bank, with the outputs `mask` and `embed`."""
    kept, wanted = [], {"mask", "embed"}
    for node in reversed(student.nodes):
        if node.name in wanted:
            kept.insert(0, node)
            wanted |= set(node.inputs)
    part = Network(kept)
    part.load_state_dict({k: v for k, v in student.state_dict().items() if k.split(".")[1] in part.ops})
    return part.eval()


def outputs(model, images, progress=lambda x: x) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask [N, 1, h, w] and patch features [N, D, h / 2, w / 2] of uint8 images [N, S, S, 3]."""
    found = None
    with torch.inference_mode():
        for i in progress(range(0, len(images), 16)):
            parts = model(to_tensor(images[i : i + 16]))
            if found is None:  # all at once: small results between large temporaries would split the heap
                found = [torch.empty(len(images), *part.shape[1:]) for part in parts]
            for whole, part in zip(found, parts, strict=True):
                whole[i : i + 16] = part
    return tuple(whole.clone() for whole in found)  # no longer tensors of inference mode


def choose(features: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """The entries [K, D] for features [N, D, h, w]; K is `count` or, where there are too few, nearly all of them.

    A greedy coreset reaches the rare patches; the mean of the patches around each entry is free of the noise that the
    features of a small network have.
    """
    every = flatten_patches(features)
    generator = torch.Generator().manual_seed(seed)
    drawn = every[torch.randperm(len(every), generator=generator)[:CANDIDATES].sort().values]
    count = min(count, len(drawn) // TOGETHER * TOGETHER)
    if not count:
        raise UserError(
            f"{len(drawn)} patches are too few for a memory bank; give more pictures or a larger input.size"
        )
    return k_means_step(every, drawn[greedy_coreset(drawn, count)[0]])


def centre(trained: Network, good) -> None:
    """Moves the features of a body so that their mean over the pictures `good` is 0, in place.

    Distances stay the same, and their two terms, which integers hold, become as small as they can be.
    """
    features = outputs(trained, good)[1]
    trained.ops["embed"].conv.bias.data -= features.mean((0, 2, 3))


def squared_distance(features: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """To the nearest entry of the bank [K, D], for features [N, D, h, w]: [N, 1, h, w]."""
    n, _, h, w = features.shape
    return nearest(flatten_patches(features), bank)[0].view(n, 1, h, w)


def parts(model, bank: torch.Tensor, images) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask [N, 1, h, w] and squared distance to the bank [N, 1, h / 2, w / 2] of uint8 images [N, S, S, 3]."""
    mask, features = outputs(model, images)
    return mask, squared_distance(features, bank)


def attach(trained: Network, model, bank: torch.Tensor, val, share: float) -> Network:
    """The deployable student: the body `trained` with the bank [K, D], and the one output `score`.

    score: `share` of the mask and the rest of the squared distance, brought to stride 8; both with mean 0 and deviation
    1 on the pictures `val`, uint8 [N, S, S, 3]. model: what computes the outputs of `trained`, itself or its quantized
    form.
    """
    mask, distance = parts(model, bank, val)
    near, sure = (1 - share) / float(distance.std()), share / float(mask.std())
    whole = Network(
        [
            *trained.nodes,
            Node("square", "square", ("embed",)),
            Node("length", "conv", ("square",), 1, norm=False, act=False),
            Node("bank", "conv", ("embed",), len(bank), norm=False, act=False),
            Node("nearest", "min", ("bank",)),
            Node("distance", "add", ("nearest", "length")),
            Node("distance_up", "up", ("distance",)),
            Node("score", "add", ("distance_up", "mask")),
        ]
    )
    state = dict(trained.state_dict())
    state["ops.mask.conv.weight"] = state["ops.mask.conv.weight"] * sure
    middle = near * float(distance.mean()) + sure * float(mask.mean())
    state["ops.mask.conv.bias"] = state["ops.mask.conv.bias"] * sure - middle
    state["ops.length.conv.weight"] = torch.full((1, bank.shape[1], 1, 1), near)
    state["ops.length.conv.bias"] = torch.zeros(1)
    state["ops.bank.conv.weight"] = (-2 * near * bank)[:, :, None, None]
    state["ops.bank.conv.bias"] = near * bank.square().sum(1)
    whole.load_state_dict(state)
    return whole.eval()
