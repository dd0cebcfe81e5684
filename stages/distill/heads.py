"""Which share each head of the student has in its score: chosen on validation pictures, never on test."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from stages.networks.patchcore import to_tensor
from stages.networks.student import Student, fuse_heads

SHARES = ((1, 1), (2, 1), (1, 2), (4, 1), (1, 4), (1, 0), (0, 1))  # of map and mask; at equal AUROC the first wins
SMOOTH = 3


def outputs(student: Student, images: np.ndarray) -> dict[str, torch.Tensor]:
    """The maps [N, 1, h, w] of every head for uint8 images [N, S, S, 3]."""
    with torch.inference_mode():
        parts = [student(to_tensor(images[i : i + 16])) for i in range(0, len(images), 16)]
    return {name: torch.cat([part[k] for part in parts]) for k, name in enumerate(student.heads)}


def fuse(student: Student, good: np.ndarray, defects: np.ndarray, weights: dict[str, float]) -> tuple[Student, dict]:
    """The student with its heads joined in the shares that best tell good validation pictures from synthetic defects.

    Each head is first scaled to a deviation of 1 on the good pictures, and the sum has their mean at 0. A head that
    was not trained (weight 0) is left out. Returns also what was found: {"map:mask": image AUROC} and the choice.
    """
    on_good, on_defects = outputs(student, good), outputs(student, defects)
    mean = {name: float(value.mean()) for name, value in on_good.items()}
    scale = {name: 1 / float(value.std()) for name, value in on_good.items()}
    labels = np.r_[np.zeros(len(good)), np.ones(len(defects))]
    found = {}
    for shares in SHARES:
        share = dict(zip(("map", "mask"), shares, strict=True))
        if any(share[name] and not weights[name] for name in share):
            continue
        joined = [sum(share[n] * scale[n] * (h[n] - mean[n]) for n in share) for h in (on_good, on_defects)]
        scores = [F.avg_pool2d(m, SMOOTH, 1, SMOOTH // 2, count_include_pad=False).amax((1, 2, 3)) for m in joined]
        found[shares] = float(roc_auc_score(labels, torch.cat(scores).numpy()))
    best = max(found, key=found.get)
    scales = {name: share * scale[name] for name, share in zip(("map", "mask"), best, strict=True)}
    fused = fuse_heads(student, scales, sum(scales[name] * mean[name] for name in scales))
    return fused, {"chosen": list(best), "auroc": {f"{a}:{b}": value for (a, b), value in found.items()}}
