"""The focal loss, which makes what is easily told count less, and the pooling that it judges a map by."""

import math

import torch
import torch.nn.functional as F

SHARPNESS = 10.0  # of the smooth maximum: a choice; on 1024 places it is at most 0.7 below the true one


def focal_loss(logits: torch.Tensor, labels: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
    """Mean of -alpha_t (1 - p_t)^gamma log p_t (Lin et al., ICCV 2017, eq. 5) over logits [N] and labels [N] (1
    defect); alpha weighs defects, 1 - alpha good pictures."""
    labels = labels.to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")  # -log p_t
    weight = alpha * labels + (1 - alpha) * (1 - labels)
    return (weight * (1 - torch.exp(-loss)) ** gamma * loss).mean()


def marked_loss(logits: torch.Tensor, areas: torch.Tensor, known: torch.Tensor, gamma: float) -> torch.Tensor:
    """The focal loss of maps of logits [N, 1, h, w] against the places with a defect, areas [N, 1, h, w] in 0..1.

    Pictures that are not `known`, bool [N], don't count: nobody marked their pixels. Defective places and good ones
    weigh the same over the batch, as classes do in `class_balance`.
    """
    logits, areas = logits[known], areas[known].to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, areas, reduction="none")
    loss = (1 - torch.exp(-loss)) ** gamma * loss
    return sum((share * loss).sum() / share.sum().clamp_min(1) for share in (areas, 1 - areas)) / 2


def class_balance(good: int, defects: int) -> float:
    """alpha: the share of good pictures, so that both classes weigh the same."""
    return good / (good + defects)


def smooth_maximum(logits: torch.Tensor) -> torch.Tensor:
    """The log-mean-exp [N] of maps of logits [N, 1, h, w] (Pinheiro & Collobert, CVPR 2015): nearly the maximum, but
    every place has a gradient."""
    flat = logits.flatten(1)
    return (torch.logsumexp(SHARPNESS * flat, 1) - math.log(flat.shape[1])) / SHARPNESS
