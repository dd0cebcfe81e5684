"""Where a supervised detector looked: gradient saliency, Otsu's threshold, contours, on labelled validation defects.

The saliency of a pixel is how much the image's logit changes with it (Simonyan et al., ICLR workshop 2014). Where it
marks nothing, or most of the picture, what is marked instead is where the intensity differs from that around it.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge.geometry import Geometry
from stages.common import atomic
from stages.common.dataset import Item, evenly
from stages.common.masks import load_masks

CELL, COUNT = 192, 6  # longer side of a cell in pixels, pictures: choices
FOUND, TRUTH = (36, 138, 240), (255, 229, 34)  # colours of the outlines (BGR): orange, cyan
SMOOTH = 0.02  # Gaussian on the saliency, as a share of the side: a choice
LEAST, MOST = 0.0005, 0.5  # shares of the picture that a region may have: choices
BACKGROUND = 0.25  # side of the median that is the intensity around, as a share of the picture's side: a choice
GAP = ((2, 2), (2, 2), (0, 0))  # white around each cell


def otsu(values: np.ndarray) -> np.ndarray:
    """The bool mask [H, W] of what lies above Otsu's threshold (IEEE Trans. SMC 9, 1979) of float values [H, W]."""
    span = float(np.ptp(values))
    if not span > 0:
        return np.zeros(values.shape, bool)
    steps = np.round((values - values.min()) / span * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(steps, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return steps > threshold


def usable(region: np.ndarray) -> bool:
    """Whether a region is neither next to nothing nor most of the picture."""
    return bool(LEAST <= region.mean() <= MOST)


def intensity_difference(sample: np.ndarray) -> np.ndarray:
    """|grey - its median around| [H, W] of a sample uint8 [H, W, C], the last frame of a clip."""
    grey = cv2.cvtColor(sample, cv2.COLOR_RGB2GRAY) if sample.shape[2] == 3 else sample[:, :, -1].copy()
    side = max(3, round(BACKGROUND * len(grey)) // 2 * 2 + 1)
    return np.abs(grey.astype(np.float32) - cv2.medianBlur(grey, min(side, 255)))


def explain(saliency: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, str]:
    """The region [H, W] that explains a verdict, and what it was found by: saliency or intensity."""
    sigma = SMOOTH * len(saliency)
    region = otsu(cv2.GaussianBlur(saliency.astype(np.float32), (0, 0), sigma))
    if usable(region):
        return region, "saliency"
    return otsu(intensity_difference(sample)), "intensity"


def write(detector, samples: np.ndarray, items: Sequence[Item], folder: Path, geometry: Geometry, path: Path) -> None:
    """Draws COUNT of the defects `samples`, uint8 [N, H, W, C], of the index `items` in `folder`, which `geometry`
    fitted: the picture with the outline of its mask, its saliency, and the outline of what explains the verdict."""
    columns: list[np.ndarray] = []
    cell = tuple(round(CELL * side / max(samples.shape[1:3])) for side in samples.shape[2:0:-1])
    for i in evenly(range(len(samples)), COUNT):
        saliency = detector.saliency(samples[i])
        region, by = explain(saliency, samples[i])
        shown = samples[i] if samples.shape[3] == 3 else np.repeat(samples[i][:, :, -1:], 3, 2)
        picture = cv2.resize(shown[:, :, ::-1], cell, interpolation=cv2.INTER_AREA)
        heat = cv2.resize(saliency / max(float(saliency.max()), 1e-12), cell, interpolation=cv2.INTER_AREA)
        coloured = cv2.applyColorMap(np.round(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
        (mask,) = load_masks(folder, [items[i]], geometry)
        cells = outlined(picture, mask, TRUTH), coloured, outlined(picture, region, FOUND)
        cv2.putText(cells[2], by, (4, cell[1] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, FOUND, 1, cv2.LINE_AA)
        columns.append(np.vstack([np.pad(cell, GAP, constant_values=255) for cell in cells]))
    _, png = cv2.imencode(".png", np.hstack(columns))
    with atomic.file(path) as temporary:
        temporary.write_bytes(png.tobytes())


def outlined(picture: np.ndarray, region: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """A copy of the picture with the contours of a region of any size."""
    picture = picture.copy()
    small = cv2.resize(region.astype(np.float32), picture.shape[1::-1], interpolation=cv2.INTER_AREA) > 0
    contours, _ = cv2.findContours(small.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, color, 1)
    return picture
