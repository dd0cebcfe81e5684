"""Score fusion: how much the mask counts beside the distance to the memory bank.

The weight is chosen by the one-standard-error rule (Breiman et al., "Classification and Regression Trees", 1984).
"""

import numpy as np
import torch
import torch.nn.functional as F

from stages.common.metrics import image_auroc
from stages.detectors import memory_bank
from stages.graph.tensors import deviation, diverged
from stages.training.cutpaste import validation_defects

FUSION_WEIGHTS = (
    0.1,
    0.2,
    0.33,
    0.5,
    0.67,
    0.8,
    0.9,
)  # of the mask; a choice: about evenly spaced, and mask and distance always count


def standard_error(auroc: float, good: int, bad: int) -> float:
    """Standard error of an AUROC over so many good and bad pictures (Hanley & McNeil, Radiology 1982)."""
    both_bad, both_good = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = (bad - 1) * (both_bad - auroc**2) + (good - 1) * (both_good - auroc**2)
    return ((auroc * (1 - auroc) + spread) / (good * bad)) ** 0.5


def choose_fusion_weight(body, bank: torch.Tensor, val: np.ndarray, seed: int) -> dict:
    """The smallest weight of the mask whose AUROC (good validation pictures against CutPaste defects) is within one
    standard error of the best: `weight`, that `limit` of the AUROC, and the AUROC of every candidate (`val_auroc`).

    The mask was trained on pasted defects, so it does better on CutPaste's than on real ones: where the AUROC can't
    tell weights apart, the distance counts more. bank: [K, D]; val: good samples uint8 [N, S, S, C].
    """
    bad = validation_defects(val, seed)
    normal, defective = (memory_bank.mask_and_distance(body, bank, samples) for samples in (val, bad))
    labels = np.arange(len(val) + len(bad)) >= len(val)
    aurocs = {weight: image_auroc(labels, fused_scores(weight, normal, defective)) for weight in FUSION_WEIGHTS}
    best = max(aurocs.values())
    limit = best - standard_error(best, len(val), len(bad))
    chosen = min(weight for weight, auroc in aurocs.items() if auroc >= limit)
    return {"weight": chosen, "limit": limit, "val_auroc": {str(weight): auroc for weight, auroc in aurocs.items()}}


def fused_scores(weight: float, normal, defective) -> torch.Tensor:
    """Image scores of the good pictures, then of the defective ones: the largest 3 x 3 mean of the fused map.

    normal, defective: (mask, squared distance) of each, which are divided by their standard deviation on good pictures.
    """
    for values, what in zip(normal, ("mask", "distance to the memory bank"), strict=True):
        deviation(values, f"the {what} on good validation pictures")
    maps = []
    for pair in (normal, defective):
        mask, distance = (values / good.std() for values, good in zip(pair, normal, strict=True))
        distance = F.interpolate(distance, size=mask.shape[-2:], mode="bilinear", align_corners=False)
        maps.append((1 - weight) * distance + weight * mask)
    padded = F.pad(torch.cat(maps), (1,) * 4, mode="replicate")
    scores = F.avg_pool2d(padded, 3, 1).amax((1, 2, 3))
    if not scores.isfinite().all():
        raise diverged("scores are not finite")
    return scores
