"""Structural similarity (Wang et al., IEEE TIP 2004) as a loss for reconstructions (Bergmann et al., VISAPP 2019)."""

import torch
import torch.nn.functional as F

WINDOW, SIGMA = 11, 1.5  # the Gaussian window in pixels, as in both papers
K1, K2 = 0.01, 0.03  # of the constants that keep the quotient finite; values are 0..1


def window(size: int = WINDOW, sigma: float = SIGMA) -> torch.Tensor:
    """A Gaussian window [size, size] whose sum is 1."""
    line = torch.exp(-((torch.arange(size) - (size - 1) / 2) ** 2) / (2 * sigma**2))
    return line.outer(line) / line.sum() ** 2


def ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The similarity [N, C, H - 10, W - 10], at most 1, of images [N, C, H, W] in 0..1, wherever the window fits."""
    channels = a.shape[1]
    kernel = window().to(a).expand(channels, 1, -1, -1)

    def mean(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, kernel, groups=channels)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a.square(), mean(b * b) - mean_b.square()
    covariance = mean(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + K1**2) / (mean_a.square() + mean_b.square() + K1**2)
    return light * (2 * covariance + K2**2) / (var_a + var_b + K2**2)
