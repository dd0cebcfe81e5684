"""Platt scaling: logits to probabilities that validation pictures agree with."""

import math

import torch
import torch.nn.functional as F

STEPS = 100  # of Newton's method at most; it needs about ten


def platt(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Slope and offset such that sigmoid(slope * logit + offset) is the probability of label 1 (Platt, 1999).

    logits [N], labels [N] of both classes. As Platt has it, the targets are a little less than 1 and more than 0, so
    that classes which don't overlap still have a finite slope.
    """
    x, y = logits.double(), labels.double()
    positive, negative = float(y.sum()), float((1 - y).sum())
    target = torch.where(y > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    design = torch.stack([x, torch.ones_like(x)], 1)  # [N, 2]
    found = torch.tensor([0.0, math.log((positive + 1) / (negative + 1))], dtype=torch.float64)
    loss = F.binary_cross_entropy_with_logits(design @ found, target, reduction="sum")
    for _ in range(STEPS):
        p = torch.sigmoid(design @ found)
        gradient = design.T @ (p - target)
        hessian = design.T @ (design * (p * (1 - p)).unsqueeze(1)) + 1e-9 * torch.eye(2, dtype=torch.float64)
        step = torch.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-6:  # backtracking
            trial = found - size * step
            now = F.binary_cross_entropy_with_logits(design @ trial, target, reduction="sum")
            if now <= loss:
                break
            size /= 2
        if size <= 1e-6 or float(gradient.abs().max()) < 1e-9:
            break
        found, loss = trial, now
    return float(found[0]), float(found[1])
