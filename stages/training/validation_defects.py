"""Synthetic defects for validation, down to the barely visible: training uses another generator, synthetic_defects.py.

Of nine families these five were kept, since the mean AUROC against them ranked candidates most as their test pictures
did (docs/compression.md): better than CutPaste alone on two of three sets, no better on the third. A family is a
function in FAMILIES. All ranges are choices.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from stages.common.metrics import image_auroc
from stages.training.cutpaste import cut_paste
from stages.training.synthetic_defects import CLIP
from stages.training.validation_video import validation_videos

COUNT = 40  # pictures with a defect of each family: a choice, bounds time
FAINT, STRONG = 4.0, 120.0  # grey levels of contrast, drawn log-uniformly


def spot(rng: np.random.Generator, image: np.ndarray, contrast: float) -> np.ndarray:
    """A darker or brighter spot without an edge."""
    height, width = image.shape[:2]
    x, y = rng.uniform(0.12, 0.88, 2) * (width, height)
    sigma = np.exp(rng.uniform(np.log(0.01), np.log(0.06))) * min(height, width)
    yy, xx = np.mgrid[:height, :width]
    shape = np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * sigma**2))[..., None]
    return image + shape * contrast * 1.5 * rng.choice([-1, 1])


def tint(rng: np.random.Generator, image: np.ndarray, contrast: float) -> np.ndarray:
    """A stain of another colour; of another brightness where the picture is grey."""
    drawn = np.asarray(rng.normal(size=image.shape[2]))
    grey = np.ptp(image.astype(int), axis=2).max() <= 8  # levels: JPEG's noise
    channels = np.full(image.shape[2], rng.choice([-1.0, 1.0])) if grey else drawn - drawn.mean()
    return image + stain(rng, *image.shape[:2]) * contrast * channels / np.abs(channels).max()


def crack(rng: np.random.Generator, image: np.ndarray, contrast: float) -> np.ndarray:
    """A thin, winding line, mostly darker."""
    height, width = image.shape[:2]
    mask, heading = np.zeros((height, width), np.uint8), rng.uniform(0, 2 * np.pi)
    points = [rng.uniform(0.1, 0.9, 2) * (width, height)]
    for _ in range(int(rng.integers(6, 20))):
        heading += rng.normal(0, 0.5)
        points.append(points[-1] + min(height, width) * 0.015 * np.array([np.cos(heading), np.sin(heading)]))
    cv2.polylines(mask, [np.round(points).astype(np.int32)], False, 1, int(rng.integers(1, 3)))
    return image + soft(mask)[..., None] * contrast * 1.5 * rng.choice([-1, -1, 1])


def grain(rng: np.random.Generator, image: np.ndarray, contrast: float) -> np.ndarray:
    """A patch of rougher texture."""
    noise = cv2.GaussianBlur(rng.normal(size=image.shape[:2]), (0, 0), rng.uniform(0.5, 1.5))[..., None]
    return image + stain(rng, *image.shape[:2]) * noise / noise.std() * contrast * 0.6


def cutpaste(rng: np.random.Generator, image: np.ndarray, contrast: float) -> np.ndarray:
    """A piece of the picture pasted elsewhere, which takes no contrast."""
    return cut_paste(rng, image)


FAMILIES: dict[str, Callable] = {family.__name__: family for family in (spot, tint, crack, grain, cutpaste)}


def stain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """An irregular polygon with a soft edge, float [height, width, 1] in 0..1."""
    centre = rng.uniform(0.12, 0.88, 2) * (width, height)
    axes = np.maximum(1, np.exp(rng.uniform(np.log(0.02), np.log(0.12), 2)) * min(height, width))
    angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 9)))
    corners = centre + axes * rng.uniform(0.6, 1.2, (len(angle), 1)) * np.stack([np.cos(angle), np.sin(angle)], 1)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1)
    return soft(mask)[..., None]


def soft(mask: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)


def validation_defects(images: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Samples uint8 [N, H, W, C] with one defect each, made of the good ones; by family, COUNT of each."""
    return {name: np.stack(pictures) for name, pictures in damaged(images, seed).items()}


def damaged(images: Sequence[np.ndarray] | np.ndarray, seed: int) -> dict[str, list[np.ndarray]]:
    """The same of pictures uint8 [H, W, C] that may have different sizes. Defects of clips, which are square, are those
    of motion (validation_video.py)."""
    if images[0].shape[2] >= CLIP:
        return {name: list(samples) for name, samples in validation_videos(np.stack([*images]), seed, COUNT).items()}
    found: dict[str, list[np.ndarray]] = {}
    for number, (name, family) in enumerate(FAMILIES.items()):
        order = np.random.default_rng([seed, number]).permutation(len(images))
        pictures = []
        for i in range(COUNT):
            rng, k = np.random.default_rng([seed, number, i]), order[i % len(order)]
            contrast = float(np.exp(rng.uniform(np.log(FAINT), np.log(STRONG))))
            pictures.append(np.clip(family(rng, images[k], contrast) + 0.5, 0, 255).astype(np.uint8))
        found[name] = pictures
    return found


def family_aurocs(good: np.ndarray, defects: dict[str, np.ndarray]) -> dict[str, float]:
    """Image AUROC of each family's scores [N] against the scores of good pictures, and their `mean`."""
    aurocs = {}
    for name, scores in defects.items():
        labels = np.arange(len(good) + len(scores)) >= len(good)
        aurocs[name] = image_auroc(labels, np.concatenate([good, scores]))
    return aurocs | {"mean": float(np.mean(list(aurocs.values())))}
