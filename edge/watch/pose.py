"""A person's posture from the seventeen keypoints of COCO."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NOSE, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 0, 5, 6, 11, 12
LEAST = 0.2  # confidence from which on a keypoint counts, that of MoveNet's own example


@dataclass(frozen=True)
class Pose:
    """Keypoints float [17, 3]: x, y in fractions of the frame, and confidence; `aspect` is the frame's width by its
    height, so that angles are those of the picture."""

    points: NDArray[np.float64] = field(repr=False)
    aspect: float = 1.0

    @property
    def torso(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The middle of the shoulders and of the hips, [x, y] in frame heights; None where one of them is unknown."""
        shoulders = self._middle(LEFT_SHOULDER, RIGHT_SHOULDER)
        hips = self._middle(LEFT_HIP, RIGHT_HIP)
        return None if shoulders is None or hips is None else (shoulders, hips)

    @property
    def angle(self) -> float | None:
        """Degrees between the torso and the vertical: 0 upright, 90 lying, 180 head down."""
        if self.torso is None:
            return None
        x, y = self.torso[0] - self.torso[1]
        return math.degrees(math.atan2(abs(x), -y)) if x or y else None

    def _middle(self, left: int, right: int) -> NDArray[np.float64] | None:
        """The mean of two keypoints; of one that is known alone, itself."""
        known = [self.points[i] for i in (left, right) if self.points[i, 2] >= LEAST]
        if not known:
            return None
        found: NDArray[np.float64] = np.mean(known, axis=0)[:2] * (self.aspect, 1)
        return found
