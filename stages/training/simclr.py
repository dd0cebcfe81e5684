"""SimCLR (Chen et al., ICML 2020): trains a backbone from scratch on crops of the good images, for use offline.

Two views of a crop differ in light, contrast and a slight shift, zoom and rotation. What tells crops apart then is
their local structure, which is what patch embeddings have to describe. The default ranges of the views, learning rate
and weight decay are choices.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from stages.common.schema import Views

CROP = 48  # pixels to a side: a choice, no more than two thirds of the picture
TEMPERATURE, VIEWS = 0.1, Views()  # where params say nothing else


def nt_xent(a: torch.Tensor, b: torch.Tensor, temperature: float) -> torch.Tensor:
    """NT-Xent (normalized temperature-scaled cross entropy) of two views [N, D] of the same N crops."""
    z = F.normalize(torch.cat([a, b]), dim=1)
    similarity = z @ z.t() / temperature
    similarity.fill_diagonal_(float("-inf"))
    n = len(a)
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(similarity, partner)


def random_views(crops: torch.Tensor, size: int, generator: torch.Generator, ranges: Views = VIEWS) -> torch.Tensor:
    """One random view [N, C, size, size] of the middle of each crop [N, C, S, S], S about 1.5 size."""
    n, side = len(crops), crops.shape[-1]

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    turn, shift, bright = math.radians(ranges.angle), ranges.shift, ranges.light
    zoom, angle = uniform(1 - ranges.zoom, 1 + ranges.zoom) * size / side, uniform(-turn, turn)
    shift_x, shift_y = uniform(-shift, shift) / side, uniform(-shift, shift) / side
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    theta = torch.stack([cos, -sin, shift_x, sin, cos, shift_y], 1).view(n, 2, 3)
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    views = F.grid_sample(crops, grid, padding_mode="reflection", align_corners=False)
    mean = views.mean(dim=(1, 2, 3), keepdim=True)
    contrast = torch.exp(uniform(*map(math.log, ranges.contrast))).view(-1, 1, 1, 1)
    ramp = torch.linspace(-bright, bright, size)
    light = uniform(-1, 1).view(-1, 1, 1, 1) * ramp + uniform(-1, 1).view(-1, 1, 1, 1) * ramp.view(-1, 1)
    views = (views - mean) * contrast + mean + light + uniform(-bright, bright).view(-1, 1, 1, 1)
    return views + torch.randn(views.shape, generator=generator) * ranges.noise


def random_crops(images: torch.Tensor, size: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` crops [count, C, size, size] of random images [N, C, H, W] at random places."""
    room = torch.tensor([side - size + 1 for side in images.shape[-2:]])
    most = int(room.max())
    pick = torch.randint(len(images), (count,), generator=generator).tolist()
    place = (torch.randint(most, (count, 2), generator=generator) * room // most).tolist()
    return torch.stack([images[i, :, y : y + size, x : x + size] for i, (y, x) in zip(pick, place, strict=True)])


def train(
    extractor,
    images: torch.Tensor,
    steps: int,
    batch: int,
    seed: int,
    log,
    progress=lambda x: x,
    temperature: float = TEMPERATURE,
    ranges: Views = VIEWS,
) -> None:
    """Trains the backbone of `extractor` in place on images [N, C, H, W] in 0..1; calls `log(step, loss)`."""
    generator = torch.Generator().manual_seed(seed)
    size = min(CROP, min(images.shape[-2:]) * 2 // 3)
    with torch.no_grad():
        width = extractor.at_scale(images[:1], 1)[-1].shape[1] * 4
    head = nn.Sequential(nn.Linear(width, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64))
    parameters = [*extractor.backbone.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=max(2, steps))
    extractor.train()
    for step in progress(range(steps)):
        crops = random_crops(images, size * 3 // 2, batch, generator)
        views = torch.cat([random_views(crops, size, generator, ranges) for _ in range(2)])
        features = head(F.adaptive_avg_pool2d(extractor.at_scale(views, 1)[-1], 2).flatten(1))
        loss = nt_xent(features[:batch], features[batch:], temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        log(step, loss.item())
    extractor.eval()
