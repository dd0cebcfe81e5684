"""What is done less often when a device is too slow: looks and sizes give way before frames are lost."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.inference.fields import Fields

WINDOW = 20  # frames from which the load is judged
CALM = 3  # such windows in a row before a step back


@dataclass(frozen=True)
class Step:
    """How much is done: shares of the camera's rate at which objects and the slower models are looked at, and of the
    width at which motion is looked for."""

    name: str
    objects: float = 1.0
    models: float = 1.0
    size: float = 1.0


STEPS = (
    Step("full"),
    Step("pose and anomaly at half the rate", models=0.5),
    Step("moving blobs at two thirds of the size", models=0.5, size=2 / 3),
    Step("objects at half the rate", 0.5, 0.5, 2 / 3),
    Step("all at a quarter of the rate, blobs at half the size", 0.25, 0.25, 0.5),
)


@dataclass
class Load:
    """Goes up and down the steps: `step(busy, waiting)` after each frame, with the seconds that it took and those that
    there are until the next one; `busiest` is the share of the time that may be used."""

    busiest: float = 0.9
    calm: float = 0.5  # below this share a step is taken back
    level: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {"reduced": 0, "restored": 0})
    _busy: float = 0.0
    _time: float = 0.0
    _frames: int = 0
    _calm: int = 0

    @property
    def now(self) -> Step:
        return STEPS[self.level]

    def fresh(self) -> Load:
        return Load(self.busiest, self.calm)

    def step(self, busy: float, interval: float) -> bool:
        """True when the step changed."""
        self._busy, self._time, self._frames = self._busy + busy, self._time + interval, self._frames + 1
        if self._frames < WINDOW:
            return False
        share = self._busy / max(self._time, 1e-9)
        self._busy = self._time = 0.0
        self._frames = 0
        self._calm = self._calm + 1 if share < self.calm else 0
        if share > self.busiest and self.level < len(STEPS) - 1:
            self.level += 1
            self.counts["reduced"] += 1
            return True
        if self._calm >= CALM and self.level > 0:
            self.level -= 1
            self._calm = 0
            self.counts["restored"] += 1
            return True
        return False


def parse_load(at: Fields) -> Load:
    busiest = at.maybe("busiest", 0.9, lambda key: at.number(key, 0, open_low=True, high=1))
    calm = at.maybe("calm", busiest / 2, lambda key: at.number(key, 0, open_low=True, high=1))
    if calm >= busiest:
        raise at.error("calm", f"below busiest, {busiest:g}")
    return Load(busiest, calm)
