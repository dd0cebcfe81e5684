"""The share of the mask in the student's score, chosen on validation pictures by the one-standard-error rule."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from stages.common.metrics import image_auroc
from stages.detectors import memory_bank
from stages.training.cutpaste import validation_defects

FILE = "share.json"  # beside the student's weights
SHARES = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9)


def standard_error(auroc: float, good: int, bad: int) -> float:
    """Of the AUROC of so many pictures (Hanley & McNeil, Radiology 1982)."""
    both_bad, both_good = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = (bad - 1) * (both_bad - auroc**2) + (good - 1) * (both_good - auroc**2)
    return ((auroc * (1 - auroc) + spread) / (good * bad)) ** 0.5


def load(folder: Path) -> float:
    """The share that was chosen for the student in `folder`."""
    return json.loads((folder / FILE).read_text())["share"]


def choose(trained, entries: torch.Tensor, val: np.ndarray, seed: int) -> dict:
    """The smallest share whose AUROC (validation pictures against CutPaste defects) is within one standard error of the
    best, and what it was chosen from.

    The mask has learned pasted defects, so it does better on these than on real ones: where they can't tell shares
    apart, the distance to the bank counts. entries: the bank [K, D]; val: good pictures uint8 [N, S, S, 3].
    """
    bad = validation_defects(val, seed)
    normal, defective = (memory_bank.parts(trained, entries, images) for images in (val, bad))
    labels = np.arange(len(val) + len(bad)) >= len(val)
    found = {share: image_auroc(labels, _scores(share, normal, defective)) for share in SHARES}
    best = max(found.values())
    limit = best - standard_error(best, len(val), len(bad))
    chosen = min(share for share, auroc in found.items() if auroc >= limit)
    return {"share": chosen, "limit": limit, "val_auroc": {str(share): auroc for share, auroc in found.items()}}


def _scores(share: float, normal, defective) -> torch.Tensor:
    """Image scores: the largest 3 x 3 mean of the joined map; both parts in deviations of the good pictures."""
    maps = []
    for pair in (normal, defective):
        mask, distance = (part / part_of_good.std() for part, part_of_good in zip(pair, normal, strict=True))
        distance = F.interpolate(distance, size=mask.shape[-2:], mode="bilinear", align_corners=False)
        maps.append((1 - share) * distance + share * mask)
    padded = F.pad(torch.cat(maps), (1,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 3, 1).amax((1, 2, 3))
