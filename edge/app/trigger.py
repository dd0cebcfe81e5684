"""When a frame is worth an inference, and when a verdict becomes an alarm."""

from __future__ import annotations

import cv2
import numpy as np

from edge.arrays import Image


class Motion:
    """True when a cell of a 16 x 16 grid changed its mean by more than `level` grey values since the last True.

    Cells average the sensor's noise away but still notice something small; comparing with the last frame that was
    looked at, not the previous one, adds up slow movement.
    """

    GRID = 16

    def __init__(self, level: float):
        self.level = level
        self._last: np.ndarray | None = None

    def __call__(self, image: Image) -> bool:
        cells = cv2.resize(image, (self.GRID, self.GRID), interpolation=cv2.INTER_AREA).astype(np.int16)
        if self._last is not None and np.abs(cells - self._last).max() <= self.level:
            return False
        self._last = cells
        return True


class Rate:
    """True at most `per_second` times a second of the source's time."""

    def __init__(self, per_second: float):
        self.step = 1 / per_second
        self._next = -np.inf

    def __call__(self, seconds: float) -> bool:
        if seconds < self._next - 1e-6:
            return False
        self._next = seconds + self.step if np.isinf(self._next) else max(self._next + self.step, seconds)
        return True


class Alarm:
    """The state that does not flicker: it turns after `steady` verdicts in a row that contradict it."""

    def __init__(self, steady: int = 5):
        self.steady, self.active = steady, False
        self._against = 0

    def __call__(self, is_defect: bool) -> bool:
        self._against = self._against + 1 if is_defect != self.active else 0
        if self._against >= self.steady:
            self.active, self._against = not self.active, 0
        return self.active
