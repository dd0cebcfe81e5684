"""Score fusion: how much each part of a student's map counts, the distances to its memory banks and the mask.

On good pictures all parts are brought to one scale: a part's `mean` becomes 0 and its `level`, the image score that
half of the good pictures exceed, 1. As in EfficientAD (Batzner et al., WACV 2024), which takes quantiles of the pixels.
"""

from itertools import product

import torch
import torch.nn.functional as F

from stages.detectors.student_network import PATCH_STRIDE, STRIDE
from stages.graph.tensors import deviation, diverged
from stages.training.validation_defects import family_aurocs

# choices, about evenly spaced, from equal weights outwards; every part always counts
MASK_WEIGHTS = (0.33, 0.2, 0.5, 0.1, 0.67, 0.8, 0.9)
DEEP_SHARES = (0.5, 0.25, 0.75)  # of the weight of the distances
TOLERANCE = 0.02  # of an AUROC on validation defects, which says no more about real ones

Parts = dict[str, torch.Tensor]  # maps [N, 1, h, w] by the name of the part


def normalisation(maps: Parts) -> dict[str, dict[str, float]]:
    """`mean` and `level` of each part, from its maps of good pictures; UserError where one is constant."""
    size = map_size(maps)
    found = {}
    for name, part in maps.items():
        deviation(part, f"the part {name} of the map on good validation pictures")
        mean, scores = float(part.mean()), image_scores(part, size)
        # of a few pictures, unlike each other, half may lie below the mean of all: then the highest counts
        level = next((value - mean for value in map(float, (scores.median(), scores.max())) if value > mean), None)
        if level is None:
            raise diverged(f"the part {name} of the map is as high everywhere on good validation pictures")
        found[name] = {"mean": mean, "level": level}
    return found


def choose_weights(good: Parts, defects: dict[str, Parts]) -> tuple[dict[str, float], dict[str, float]]:
    """The weight of each part, and the image AUROC of each family of validation defects with their `mean`.

    Of the candidates whose mean is within TOLERANCE of the highest, the first, which is the nearest to equal weights.
    good, defects: the parts on good pictures and on each family.
    """
    scale, size = normalisation(good), map_size(good)

    def enlarged(parts: Parts) -> Parts:
        return {
            name: resized((part - scale[name]["mean"]) / scale[name]["level"], size) for name, part in parts.items()
        }

    normal, bad = enlarged(good), {family: enlarged(parts) for family, parts in defects.items()}
    candidates = []
    shares = product(MASK_WEIGHTS if "mask" in good else (0.0,), DEEP_SHARES) if "deep" in good else [(1.0, 0.0)]
    for mask, deep in shares:
        weights = {"fine": (1 - mask) * (1 - deep), "deep": (1 - mask) * deep, "mask": mask}
        weights = {name: weights[name] for name in good}
        scores = {family: image_scores(fused(parts, weights), size).numpy() for family, parts in bad.items()}
        aurocs = family_aurocs(image_scores(fused(normal, weights), size).numpy(), scores)
        candidates.append((weights, aurocs))
    least = max(aurocs["mean"] for _, aurocs in candidates) - TOLERANCE
    return next((weights, aurocs) for weights, aurocs in candidates if aurocs["mean"] >= least)


def fused(parts: Parts, weights: dict[str, float]) -> torch.Tensor:
    return sum(weight * parts[name] for name, weight in weights.items())


def map_size(maps: Parts) -> tuple[int, int]:
    """Height and width of the student's map, to which distances are enlarged with or without a mask beside them."""
    if "deep" not in maps:
        height, width = maps["mask"].shape[-2:]
        return height, width
    height, width = maps["deep"].shape[-2:]
    return height * PATCH_STRIDE // STRIDE, width * PATCH_STRIDE // STRIDE


def resized(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def image_scores(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The largest 3 x 3 mean [N] of maps [N, 1, h, w] enlarged to `size`, as compile.smooth = 3 takes it."""
    scores = F.avg_pool2d(F.pad(resized(maps, size), (1,) * 4, mode="replicate"), 3, 1).amax((1, 2, 3))
    if not scores.isfinite().all():
        raise diverged("scores are not finite")
    return scores
