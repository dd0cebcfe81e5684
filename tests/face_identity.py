"""How often a hidden face is still told from others: the nearest of five known pictures, hidden in the same way."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from face_conditions import photos
from face_variants import FACES, vary

from edge.app.privacy import MODES, Guard

TRIALS = 20  # of each of the five faces
SIDE = 24  # pixels of the pictures that are compared
VARIATIONS = {  # of the picture and of the box: at most so far either way
    "small": {"angle": 5, "light": 0.15, "tint": 0.0, "noise": 5, "shift": 0.05, "size": 0.07},
    "large": {"angle": 15, "light": 0.4, "tint": 0.15, "noise": 10, "shift": 0.1, "size": 0.15},
}


def rates(assets: Path) -> dict[str, dict[str, int]]:
    """For each variation and mode, and for faces that are not hidden, how many of 100 are told right; chance is 20."""
    people = [(image, face) for image, faces in photos(assets, FACES) for face in faces]
    return {name: {mode: _right(people, mode, how) for mode in ("shown", *MODES)} for name, how in VARIATIONS.items()}


def _right(people, mode: str, how: dict) -> int:
    """An attacker who knows the mode hides the known pictures too, and takes the nearest by the mean square of the
    difference, once of the colours as they are and once of their deviation from the mean; the better way counts, and
    of equally near ones each a part."""
    rng = np.random.default_rng(41)
    known = [_crop(image, face, mode) for image, face in people]
    right = np.zeros(2)
    for person, (image, face) in enumerate(people):
        for _ in range(TRIALS):
            seen = _crop(*_another(image, face, rng, **how), mode)
            for way, change in enumerate((lambda x: x, lambda x: x - x.mean((0, 1)))):
                away = np.array([((change(seen) - change(one)) ** 2).mean() for one in known])
                right[way] += (away[person] == away.min()) / (away == away.min()).sum()
    return round(right.max())


def _another(image, face, rng, angle, light, tint, noise, shift, size):
    """The picture taken again: turned, lighter or darker, of another tint, noisy; the finder's box is not the same."""
    other, boxes = vary(image, face[None], angle=rng.uniform(-angle, angle), light=rng.uniform(1 - light, 1 + light))
    value = other * rng.uniform(1 - tint, 1 + tint, 3) + noise * rng.standard_normal(other.shape)
    middle = boxes[0, :2] + boxes[0, 2:] / 2 + rng.uniform(-shift, shift, 2) * face[2:]
    side = face[2:] * rng.uniform(1 - size, 1 + size)
    return np.clip(value, 0, 255).astype(np.uint8), np.array([*middle - side / 2, *side])


def _crop(image, face, mode: str) -> np.ndarray:
    """The face as the mode leaves it, at one size for all, float [SIDE, SIDE, 3]."""
    frame = image.copy()
    if mode != "shown":
        Guard(mode, lambda _: [face])(frame)
    x, y, w, h = face
    rows, columns = (slice(max(0, round(start)), max(1, round(end))) for start, end in ((y, y + h), (x, x + w)))
    return cv2.resize(frame[rows, columns], (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(float)
