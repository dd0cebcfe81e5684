"""Ground-truth masks, and how they shrink to the resolution of a model."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge.geometry import Geometry
from edge.preprocess import read_mask
from stages.common.dataset import Item


def load_mask(folder: str | Path, item: Item, height: int, width: int) -> np.ndarray | None:
    """The bool mask of `item` as its file has it; of a good picture an empty one [height, width], None for a defect
    whose source marks no pixels."""
    if item.label == 0:
        return np.zeros((height, width), bool)
    if not item.mask:
        return None
    mask = read_mask(Path(folder) / item.mask)
    return mask if mask.any() else None


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two bool maps [H, W]; 0 where both are empty."""
    either = (a | b).sum()
    return float((a & b).sum() / either) if either else 0.0


def shrink(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A bool mask [height, width]; where it shrinks, a pixel is a defect if any part of it is.

    Nearest neighbour would lose a scratch thinner than the sampling step, and with it a whole region of AUPRO. The
    price is a border up to one pixel wider.
    """
    if height >= mask.shape[0] and width >= mask.shape[1]:
        return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    return cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0


def load_masks(folder: str | Path, items: Sequence[Item], geometry: Geometry) -> np.ndarray:
    """The masks of items on the canvas of their samples, bool [N, H, W], empty where the source marks no pixels; what
    lies beyond a picture that doesn't fill its canvas is mirrored, as in the sample."""
    masks = np.zeros((len(items), *geometry.canvas), bool)
    for item, placed in zip(items, masks, strict=True):
        if item.mask:
            mask = read_mask(Path(folder) / item.mask)
            small = shrink(mask, *geometry.area(mask.shape))
            placed[:] = geometry.sample(small.astype(np.uint8))
    return masks
