"""A picture of synthetic defects that the student was trained with, for people to judge."""

from pathlib import Path

import cv2
import numpy as np

from stages.common import atomic
from stages.training.synthetic_defects import training_pool

CELL, COUNT, LINE = 192, 8, (255, 229, 34)  # longer side of a cell in pixels, pictures, colour of the outline (BGR)
GAP = ((2, 2), (2, 2), (0, 0))  # white around each cell


def write(train: np.ndarray, count: int, seed: int, path: Path) -> None:
    """The first of `count` training pictures that have a defect, each twice: as it is, and below with the outline of
    the mask. train: good samples uint8 [N, H, W, C]; of a clip the last frame is shown."""
    images, masks = training_pool(train, min(count, 2 * COUNT), seed)
    columns = []
    for i in np.flatnonzero(masks.any(axis=(1, 2)))[:COUNT]:
        shown = images[i] if images.shape[3] == 3 else np.repeat(images[i][:, :, -1:], 3, 2)
        size = tuple(round(CELL * side / max(masks[i].shape)) for side in masks[i].shape[::-1])
        picture = cv2.resize(shown[:, :, ::-1], size, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(masks[i].astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cells = picture, cv2.drawContours(picture.copy(), outlines, -1, LINE, 1)
        columns.append(np.vstack([np.pad(cell, GAP, constant_values=255) for cell in cells]))
    _, png = cv2.imencode(".png", np.hstack(columns))
    with atomic.file(path) as temporary:
        temporary.write_bytes(png.tobytes())
