"""Energy of one inference: long windows of idling and of back-to-back inference, and what a source says about them.

A source is a module with `open(spec)`, which returns a `Source`, and `found()`, which says whether this machine has it.
Standard library only: the modules that read sensors run on the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from hardware_runners.runner.energy import ina2xx, jetson, pmic, rapl

SOURCES = {"rapl": rapl, "jetson": jetson, "pmic": pmic, "ina2xx": ina2xx}

T = TypeVar("T")


class Source(Protocol):
    """An open sensor: `read` gives the power in W, or of a `counter` a growing energy in J."""

    scope: str
    counter: bool

    def read(self) -> float: ...


class NoEnergy(Exception):
    """A source that gives no figure; the message says why."""


def found() -> list[str]:
    """The sources that this machine has."""
    return [name for name, module in SOURCES.items() if module.found()]


def figure(
    source: str, scope: str, windows: dict[str, Any], active_j: float, idle_j: float, samples: int
) -> dict[str, Any]:
    """The energy of one inference in mJ: gross, and net of what the machine takes while it idles; `value_mj` is net."""
    (idle_from, idle_to), (active_from, active_to), n = windows["idle"], windows["active"], windows["n"]
    active_s, idle_s = active_to - active_from, idle_to - idle_from
    idle_w = idle_j / idle_s
    gross = active_j / n * 1e3
    net = (active_j - idle_w * active_s) / n * 1e3
    return {
        "value_mj": net,
        "gross_mj": gross,
        "net_mj": net,
        "method": "measured",
        "source": source,
        "scope": scope,
        "n": n,
        "window_s": active_s,
        "idle_s": idle_s,
        "idle_w": idle_w,
        "active_w": active_j / active_s,
        "samples": samples,
        "rate_hz": samples / active_s,
        "reason": None,
    }


def integrate(samples: list[tuple[float, float]], start: float, end: float) -> float:
    """The energy in J of (s, W) samples between two times: trapezoids, the ends interpolated; NoEnergy when the
    samples do not cover the window."""
    inside = [(t, w) for t, w in samples if start < t < end]
    if not inside or samples[0][0] > start or samples[-1][0] < end:
        raise NoEnergy("the samples do not cover the measured window")
    points = [(start, _at(samples, start)), *inside, (end, _at(samples, end))]
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs(points))


def difference(samples: list[tuple[float, float]], start: float, end: float) -> float:
    """The energy in J between two times by (s, J) samples of a growing counter, interpolated."""
    return _at(samples, end) - _at(samples, start)


def pairs(items: Sequence[T]) -> Iterable[tuple[T, T]]:
    """Each item with the next one."""
    return zip(items, items[1:])  # noqa: B905, RUF007 (Python 3.9)


def _at(samples: list[tuple[float, float]], time: float) -> float:
    for (t0, w0), (t1, w1) in pairs(samples):
        if t0 <= time <= t1:
            return w0 if t1 == t0 else w0 + (w1 - w0) * (time - t0) / (t1 - t0)
    raise NoEnergy("the samples do not cover the measured window")
