"""CutPaste defects (Li et al., CVPR 2021), a family of validation_defects.py.

The ranges are choices. Patches are smaller than the paper's (0.3 to 6 % of the picture instead of 2 to 15 %), and the
size of scars is relative to the picture.
"""

import cv2
import numpy as np

from stages.training.synthetic_defects import channelwise


def cut_paste(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A sample uint8 [H, W, C] with a piece of itself pasted elsewhere, in other brightness and contrast: a patch, or a
    narrow rotated scar."""
    rows, columns = image.shape[:2]
    size = min(rows, columns)
    if rng.random() < 0.5:
        area, aspect = rng.uniform(0.003, 0.06), np.exp(rng.uniform(-1.2, 1.2))
        height, width = (int(np.clip(size * (area * a) ** 0.5, 3, size // 2)) for a in (aspect, 1 / aspect))
        angle = 0.0
    else:
        height, width = max(2, int(size * rng.uniform(0.01, 0.05))), max(4, int(size * rng.uniform(0.06, 0.25)))
        angle = float(rng.uniform(-90, 90))
    y, x = rng.integers(0, rows - height + 1), rng.integers(0, columns - width + 1)
    piece = image[y : y + height, x : x + width].astype(np.float32)
    mean = piece.mean()
    piece = np.clip((piece - mean) * rng.uniform(0.6, 1.8) + mean + rng.normal(0, 25), 0, 255)
    centre = (width - 1) / 2, (height - 1) / 2
    place = cv2.getRotationMatrix2D(centre, angle, 1.0)
    place[:, 2] += rng.uniform(0.1, 0.9, 2) * (columns, rows) - centre
    mask = cv2.warpAffine(np.ones((height, width), np.float32), place, (columns, rows))[..., None]
    moved = channelwise(
        lambda part: cv2.warpAffine(part, place, (columns, rows), borderMode=cv2.BORDER_REPLICATE), piece
    )
    return np.clip(image * (1 - mask) + moved * mask + 0.5, 0, 255).astype(np.uint8)
