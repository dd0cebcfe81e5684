"""From a picture file to the array that a model takes; the same code trains, evaluates and deploys."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.errors import UserError


class ImageError(UserError):
    """A picture that can't be read; the message names the file."""


def read_image(path: str | Path) -> np.ndarray:
    """The picture as uint8 [H, W, 3] in RGB, grey pictures with three equal channels; ImageError when it is broken."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageError(f"{path}: can't be read: {error.strerror}") from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ImageError(f"{path}: not a readable picture; replace or remove it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Stretches to height x width, bilinear; a side more than twice as long is first averaged down to twice as long.

    Bilinear alone would skip pixels beyond a factor of two.
    """
    limit = (min(image.shape[0], 2 * height), min(image.shape[1], 2 * width))
    if image.shape[:2] != limit:
        image = cv2.resize(image, limit[::-1], interpolation=cv2.INTER_AREA)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def sample_of(frames: list[np.ndarray], color: str) -> np.ndarray:
    """What a model sees of pictures uint8 [H, W, 3]: the last one as it is (rgb), or all as grey channels [H, W, T]."""
    if color == "rgb":
        return frames[-1]
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames], axis=2)
