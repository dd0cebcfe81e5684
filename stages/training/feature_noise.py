"""Noise on features inside random areas, which a mask head learns to find beside defects pasted into pictures.

As in SuperSimpleNet (Rolih et al., ICPR 2024): what no pasted defect shows, features may. Fused with the memory banks,
a head trained with noise found more of the pill's defects, upright and rotated, and as many of the tiles'.
"""

import math

import torch
import torch.nn.functional as F

# choices
CELLS = (4, 6, 8, 12)  # to a side of the grid of random values that the areas come from
HIDDEN = (0.85, 0.98)  # share of a picture outside the areas
FAINTEST = 0.25  # the least noise, in standard deviations of a channel; the most is 1


def noisy(features: list[torch.Tensor], spread: list[torch.Tensor], areas: torch.Tensor, seed: int):
    """Feature maps [N, C, h, w] with noise in half of the pictures, and the areas [N, 1, h, w] to find, grown by it.

    features: the finest first, whose size the areas have; the others may be half as large. spread: the standard
    deviation of each one's channels [1, C, 1, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    count, (height, width), device = len(areas), areas.shape[-2:], areas.device
    cells = CELLS[int(torch.randint(len(CELLS), (1,), generator=generator))]
    values = torch.randn(count, 1, cells, cells, generator=generator)
    values = F.interpolate(values, size=(height, width), mode="bicubic", align_corners=False)
    hidden = HIDDEN[0] + (HIDDEN[1] - HIDDEN[0]) * float(torch.rand(1, generator=generator))
    inside = (values > values.flatten(1).quantile(hidden, 1).view(-1, 1, 1, 1)).float()
    inside = inside * (torch.rand(count, 1, 1, 1, generator=generator) < 0.5)
    strength = torch.exp(torch.rand(count, 1, 1, 1, generator=generator) * -math.log(FAINTEST) + math.log(FAINTEST))
    out = []
    for feature, deviation in zip(features, spread, strict=True):
        step = height // feature.shape[-2]
        where = F.max_pool2d(inside, step) if step > 1 else inside
        noise = torch.randn(feature.shape, generator=generator) * where * strength
        out.append(feature + noise.to(device) * deviation)
    return out, torch.maximum(areas, inside.to(device))
