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

    def __call__(self, image: Image, always: bool = False) -> bool:
        """`always`: the frame is looked at anyway, and later ones are compared with it."""
        cells = cv2.resize(image, (self.GRID, self.GRID), interpolation=cv2.INTER_AREA).astype(np.int16)
        if not always and self._last is not None and np.abs(cells - self._last).max() <= self.level:
            return False
        self._last = cells
        return True


class Rate:
    """True at most `per_second` times a second of the source's time, in the mean, and once after a gap.

    A frame comes late by up to the distance of two frames, and the next one is due as if it had been in time: so the
    mean is kept. After a gap, time begins anew: nothing is made up for.
    """

    def __init__(self, per_second: float):
        self.step = 1 / per_second
        self._next = -np.inf
        self._seen: float | None = None  # the time of the frame before
        self._distance = 0.0  # of the two frames before

    def __call__(self, seconds: float) -> bool:
        usual, self._distance = self._distance, 0.0 if self._seen is None else seconds - self._seen
        self._seen = seconds
        late = seconds - self._next
        if late < -1e-6:
            return False
        in_time = late <= min(1.5 * usual, self.step)
        self._next = (self._next if in_time else seconds) + self.step
        return True


class Alarm:
    """The state that does not flicker: it turns after `steady` verdicts in a row that contradict it, each of an
    inference of its own."""

    def __init__(self, steady: int = 5):
        self.steady, self.active = steady, False
        self._against = 0

    @property
    def doubted(self) -> bool:
        """Whether the last verdict contradicted the state: only further inferences tell an error from a change."""
        return self._against > 0

    def __call__(self, is_defect: bool) -> bool:
        self._against = self._against + 1 if is_defect != self.active else 0
        if self._against >= self.steady:
            self.active, self._against = not self.active, 0
        return self.active


class Continuity:
    """Notices frames that are missing between those that are seen: `span` is how many a clip reaches back, `pause` how
    many seconds without one end a clip."""

    def __init__(self, span: int, pause: float):
        self._span, self._pause = span, pause
        self._last: tuple[int, float] | None = None
        self._since = span  # frames since one was missing
        self._seen = 0  # frames of the clip

    def see(self, index: int, seconds: float) -> bool:
        """Takes note of a frame; True where a new clip begins after a pause."""
        last, self._last = self._last, (index, seconds)
        self._seen = min(self._seen + 1, self._span)
        if last is None:
            return False
        if seconds - last[1] > self._pause:
            self._since, self._seen = self._span, 1
            return True
        self._since = 1 if index > last[0] + 1 else min(self._since + 1, self._span)
        return False

    def left_out(self) -> None:
        """The frame that was seen last is none that the clip is made of."""
        self._since, self._seen = 0, self._seen - 1

    @property
    def begun(self) -> bool:
        """Whether the clip reaches back as far as it should."""
        return self._seen >= self._span

    @property
    def state(self) -> str:
        """Either "whole", or "gap" while a missing frame lies within the span."""
        return "whole" if self._since >= self._span else "gap"
