"""EfficientAD-S (Batzner et al., WACV 2024) as a network with random weights, to be timed beside ours."""

import torch
import torch.nn.functional as F
from torch import nn

SIZE = 256  # side of the pictures
OUTPUT = 384  # channels of the teacher's features


def description_network(channels: int) -> nn.Sequential:
    """The patch description network PDN-S without padding: images [N, 3, 256, 256] to [N, channels, 56, 56]."""
    convolutions = [
        nn.Conv2d(3, 128, 4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(128, 256, 4),
        nn.ReLU(),
        nn.AvgPool2d(2),
    ]
    return nn.Sequential(*convolutions, nn.Conv2d(256, 256, 3), nn.ReLU(), nn.Conv2d(256, channels, 4))


def autoencoder() -> nn.Sequential:
    """The autoencoder of the paper's appendix: a bottleneck of 64 numbers, then upsampling to the teacher's grid."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.ReLU()]
    layers.append(nn.Conv2d(64, 64, 8))
    for size in (3, 8, 15, 32, 63, 127):
        layers += [nn.Upsample(size=(size, size), mode="bilinear"), nn.Conv2d(64, 64, 4, padding=2), nn.ReLU()]
    layers += [nn.Upsample(size=(56, 56), mode="bilinear"), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(64, OUTPUT, 3, padding=1))


class EfficientAD(nn.Module):
    """Images [N, 3, 256, 256] to anomaly maps of the same size, with random weights."""

    def __init__(self):
        super().__init__()
        self.teacher, self.student = description_network(OUTPUT), description_network(2 * OUTPUT)
        self.autoencoder = autoencoder()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        wanted, found, coded = self.teacher(images), self.student(images), self.autoencoder(images)
        local = (wanted - found[:, :OUTPUT]).square().mean(1, keepdim=True)
        whole = (coded - found[:, OUTPUT:]).square().mean(1, keepdim=True)
        return F.interpolate((local + whole) / 2, size=images.shape[-2:], mode="bilinear")
