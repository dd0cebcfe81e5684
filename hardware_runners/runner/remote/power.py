"""Idles, then runs a model back to back, both for long enough to measure the energy of it; prints JSON.

`python -m hardware_runners.runner.remote.power MODEL --energy '{"source": "rapl", "window_s": 10, …}'`. Without a
sensor on this machine (source meter) it prints when the windows were, for whoever holds the meter."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from edge.inference.detector import load
from edge.inference.timing import noise
from hardware_runners.runner import energy
from hardware_runners.runner.remote import job

SETTLE_S = 1.0  # after loading and after idling, so that caches and clocks are as they will be


class Sampler(threading.Thread):
    """Reads a source `rate` times a second: (time.time(), value)."""

    def __init__(self, source: energy.Source, rate: float):
        super().__init__(daemon=True)
        self.source, self.period = source, 1 / rate
        self.samples: list[tuple[float, float]] = []
        self.error: Exception | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            self.sample()
            while not self.ended.wait(self.period):
                self.sample()
            self.sample()
        except Exception as error:  # told where the figure would be
            self.error = error

    def sample(self) -> None:
        value = self.source.read()
        self.samples.append((time.time(), value))

    def stop(self) -> None:
        self.ended.set()
        self.join()


def measure(folder: str, threads: int, spec: dict[str, Any], delegate: str | None = None) -> dict[str, Any]:
    """The figure of energy.figure; {"reason": ...} when the source gives none; the windows alone for a meter."""
    detector = load(folder, threads, delegate)
    tensors = detector.tensors(noise(detector.info.input))
    sampler = None
    if spec["source"] != "meter":
        try:
            sampler = Sampler(energy.SOURCES[spec["source"]].open(spec), spec["rate_hz"])
            sampler.sample()
        except (OSError, ValueError) as error:
            return {"reason": f"{spec['source']}: {error}"}
        sampler.start()
    windows = run_windows(lambda: detector.invoke_all(tensors), spec["idle_s"], spec["window_s"])
    if sampler is None:
        return {"windows": windows}
    sampler.stop()
    if sampler.error:
        return {"reason": f"{spec['source']}: {sampler.error}"}
    try:
        idle_j, active_j = (joules(sampler, *windows[name]) for name in ("idle", "active"))
    except energy.NoEnergy as error:
        return {"reason": f"{spec['source']}: {error}"}
    start, end = windows["active"]
    count = sum(start <= t <= end for t, _ in sampler.samples)
    return energy.figure(spec["source"], sampler.source.scope, windows, active_j, idle_j, count)


def run_windows(action: Callable[[], object], idle_s: float, window_s: float) -> dict[str, Any]:
    """When it idled and when it worked, in seconds since 1970, and how often it did."""
    _busy(action, SETTLE_S)
    time.sleep(SETTLE_S)
    idle_from = time.time()
    time.sleep(idle_s)
    idle_to = time.time()
    busy_from = time.time()
    _busy(action, SETTLE_S)
    active_from = time.time()
    n = _busy(action, window_s)
    end = time.time()
    time.sleep(SETTLE_S)  # the last sample lies behind the window
    return {"idle": [idle_from, idle_to], "busy": [busy_from, end], "active": [active_from, end], "n": n}


def _busy(action: Callable[[], object], seconds: float) -> int:
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        action()
        n += 1
        job.end_with_parent()
    return n


def joules(sampler: Sampler, start: float, end: float) -> float:
    """The energy between two times: of a counter the difference, of a power the integral."""
    if sampler.source.counter:
        return energy.difference(sampler.samples, start, end)
    return energy.integrate(sampler.samples, start, end)


def main(argv: list[str] | None = None) -> int:
    """Prints the figure as JSON; one line on stderr and 1 when the model can't be run."""
    parser = job.parser("power", __doc__)
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads")
    parser.add_argument("--energy", type=json.loads, required=True, metavar="JSON", help="energy of the inventory file")
    given = parser.parse_args(argv)
    return job.answer(lambda: measure(given.model, given.threads, given.energy, given.delegate))


if __name__ == "__main__":
    sys.exit(main())
