"""Score fusion: the weight of the mask beside the distance to the memory bank, by the one-standard-error rule."""

import numpy as np
import torch
import torch.nn.functional as F

from stages.common.metrics import image_auroc
from stages.detectors import memory_bank
from stages.training.cutpaste import validation_defects

FUSION_WEIGHTS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9)  # about even; both parts always count


def standard_error(auroc: float, good: int, bad: int) -> float:
    """Of the AUROC of so many pictures (Hanley & McNeil, Radiology 1982)."""
    both_bad, both_good = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = (bad - 1) * (both_bad - auroc**2) + (good - 1) * (both_good - auroc**2)
    return ((auroc * (1 - auroc) + spread) / (good * bad)) ** 0.5


def choose_fusion_weight(body, bank: torch.Tensor, val: np.ndarray, seed: int) -> dict:
    """The smallest weight whose AUROC (validation pictures against CutPaste defects) is within one standard error of
    the best, and what it was chosen from.

    The mask has learned pasted defects, so it does better on these than on real ones: where they can't tell weights
    apart, the distance counts. bank: [K, D]; val: good samples uint8 [N, S, S, C].
    """
    bad = validation_defects(val, seed)
    normal, defective = (memory_bank.mask_and_distance(body, bank, samples) for samples in (val, bad))
    labels = np.arange(len(val) + len(bad)) >= len(val)
    found = {weight: image_auroc(labels, fused_scores(weight, normal, defective)) for weight in FUSION_WEIGHTS}
    best = max(found.values())
    limit = best - standard_error(best, len(val), len(bad))
    chosen = min(weight for weight, auroc in found.items() if auroc >= limit)
    return {"weight": chosen, "limit": limit, "val_auroc": {str(weight): auroc for weight, auroc in found.items()}}


def fused_scores(weight: float, normal, defective) -> torch.Tensor:
    """Image scores: the largest 3 x 3 mean of the fused map; both parts in deviations of the good pictures."""
    maps = []
    for pair in (normal, defective):
        mask, distance = (part / part_of_good.std() for part, part_of_good in zip(pair, normal, strict=True))
        distance = F.interpolate(distance, size=mask.shape[-2:], mode="bilinear", align_corners=False)
        maps.append((1 - weight) * distance + weight * mask)
    padded = F.pad(torch.cat(maps), (1,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 3, 1).amax((1, 2, 3))
