"""The hard-feature loss of EfficientAD (Batzner et al., WACV 2024, section 3.2)."""

import torch

HARD = 0.999  # the quantile of the squared differences from which on they count (the paper's p_hard)


def hard_feature_loss(found: torch.Tensor, wanted: torch.Tensor, quantile: float = HARD) -> torch.Tensor:
    """The mean of those squared differences of two tensors that are at or above their `quantile`.

    So the student learns what it knows least, and isn't made to generalise to what it knows well.
    """
    squared = (found - wanted).square().flatten()
    kept = max(1, round(len(squared) * (1 - quantile)))
    return squared.topk(kept).values.mean()
