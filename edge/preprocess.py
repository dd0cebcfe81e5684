"""From a picture file to the array that a model takes; the same code trains, evaluates and deploys.

A sample is a picture, uint8 [H, W, 3] RGB, or a clip of grey frames, uint8 [H, W, T], the last one being now."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge.arrays import Image, Mask
from edge.errors import UserError


class ImageError(UserError):
    """A picture that can't be read; the message names the file."""


def read_image(path: str | Path) -> Image:
    """The picture as uint8 [H, W, 3] in RGB, grey pictures with three equal channels; ImageError when it is broken."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageError(f"{path}: can't be read: {error.strerror}") from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ImageError(f"{path}: not a readable picture; replace or remove it")
    rgb: Image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


def read_mask(path: str | Path) -> Mask:
    """The defect's pixels as bool [H, W]: whatever is not zero in any channel; ImageError when it is broken."""
    return np.asarray(read_image(path).any(axis=2))


def to_grey(image: Image) -> Image:
    """The luma (ITU-R BT.601) of a picture [H, W, 3] as [H, W]; equal channels keep their value."""
    grey: Image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey


def to_sample(pictures: Sequence[Image], color: str) -> Image:
    """What a model of that color takes of pictures [H, W, 3] of one size, the last one being now: the last one itself
    (rgb), or all of them in grey, [H, W, T]."""
    return pictures[-1] if color == "rgb" else np.stack([to_grey(picture) for picture in pictures], axis=-1)


def resize(image: Image, height: int, width: int) -> Image:
    """Stretches [H, W] or [H, W, C] to height x width, bilinear; a side more than twice as long is first averaged down
    to twice as long, since bilinear alone would skip pixels beyond a factor of two.

    Channels other than RGB are resized one by one: OpenCV takes four at most, and a frame has to come out the same
    whether it is alone or in a clip.
    """
    if image.ndim == 3 and image.shape[2] != 3:
        return np.stack([resize(image[..., i], height, width) for i in range(image.shape[2])], axis=-1)
    limit = (min(image.shape[0], 2 * height), min(image.shape[1], 2 * width))
    if image.shape[:2] != limit:
        image = cv2.resize(image, limit[::-1], interpolation=cv2.INTER_AREA)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


class Ring:
    """The sample that a model takes of a running video: the last `frames` frames [H, W], `step` apart; as long as too
    few were seen, the first one stands in for those before it."""

    def __init__(self, frames: int, step: int):
        self._step, self._length = step, (frames - 1) * step + 1
        self._kept: deque[Image] = deque(maxlen=self._length)

    def push(self, frame: Image) -> None:
        self._kept.extend([frame] * (1 if self._kept else self._length))

    def sample(self) -> Image:
        """uint8 [H, W, frames]"""
        return np.stack(list(self._kept)[:: self._step], axis=-1)
