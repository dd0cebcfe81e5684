"""Oversampling and augmentation of labelled pictures: flips, rotation, zoom, contrast."""

import cv2
import numpy as np

from stages.training.synthetic_defects import channelwise

MARKED = 0.3  # share of a turned pixel that is marked, from which it is: a scratch stays whole; a choice
FLIPS = ((), (1,), (0,), (0, 1))  # axes of [H, W, C]: as it is, left to right, upside down, both


def oversampled(good: int, defects: int, share: float) -> list[tuple[int, int]]:
    """(index of the defect, number of the flip in FLIPS) of each defect that is learned from.

    They are as many as `share` of the `good` pictures, or all `defects` where those are more. Each comes as it is
    before one is repeated, and is flipped in another way each time.
    """
    count = max(defects, round(share * good))
    return [(i % defects, i // defects % len(FLIPS)) for i in range(count)]


def flipped(sample: np.ndarray, number: int) -> np.ndarray:
    """The sample [H, W, C], or the mask [H, W], flipped along the axes FLIPS[number]."""
    return np.ascontiguousarray(np.flip(sample, FLIPS[number]))


def augmented(
    rng: np.random.Generator, sample: np.ndarray, mask: np.ndarray, rotation: float, zoom: float, contrast: float
) -> tuple[np.ndarray, np.ndarray]:
    """The sample uint8 [H, W, C], flipped at random, turned by up to `rotation` degrees, enlarged or shrunk by up to
    `zoom` and with up to `contrast` more or less contrast and light (shares of 1); borders are mirrored. And its mask
    bool [H, W], flipped and moved in the same way."""
    height, width = sample.shape[:2]
    flip = int(rng.integers(len(FLIPS)))
    sample, mask = flipped(sample, flip), flipped(mask, flip)
    centre = (width - 1) / 2, (height - 1) / 2
    move = cv2.getRotationMatrix2D(centre, rng.uniform(-rotation, rotation), 1 + rng.uniform(-zoom, zoom))
    how = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
    moved = channelwise(lambda part: cv2.warpAffine(part, move, (width, height), **how), sample).astype(np.float32)
    marked = cv2.warpAffine(mask.astype(np.float32), move, (width, height), **how) >= MARKED if mask.any() else mask
    mean = moved.mean()
    changed = (moved - mean) * (1 + rng.uniform(-contrast, contrast)) + mean * (1 + rng.uniform(-contrast, contrast))
    return np.clip(changed + 0.5, 0, 255).astype(np.uint8), marked
