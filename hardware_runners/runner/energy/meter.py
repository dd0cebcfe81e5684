"""A power meter that this computer reads, not the device: a serial port that prints lines, or a CSV file that the
meter's own program writes. The load step of the measurement itself brings the clocks together."""

from __future__ import annotations

import csv
import os
import re
import select
import statistics
import termios
import threading
import time
import tty
from bisect import bisect_left, bisect_right

from hardware_runners.runner.energy import NoEnergy, figure, integrate, pairs

SEARCH_S = 3.0  # how far clocks that both claim to be right may be apart
COLUMNS = {"time": "time", "power": "power"}


class Recorder:
    """Takes down a meter between `with` and its end; `energy` then reads the windows out of it. `spec` is the
    `energy` section of an inventory file."""

    def __init__(self, spec: dict):
        self.spec = spec
        self.columns = spec.get("columns") or COLUMNS
        self.lines: list[str] = []
        self.stop = threading.Event()
        self.thread = None
        self.error = None

    def __enter__(self):
        if self.spec.get("port"):
            try:
                port = os.open(self.spec["port"], os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
            except OSError as error:
                self.error = f"{self.spec['port']}: {error.strerror}"
                return self
            self.thread = threading.Thread(target=self._record, args=(port,), daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        if self.thread:
            self.thread.join()

    def _record(self, port: int) -> None:
        """Keeps whole lines, each with the time of its arrival in front."""
        try:
            tty.setraw(port)
            settings = termios.tcgetattr(port)
            settings[4] = settings[5] = getattr(termios, f"B{self.spec.get('baud') or 115200}")
            termios.tcsetattr(port, termios.TCSANOW, settings)
            rest = b""
            while not self.stop.is_set():
                if not select.select([port], [], [], 0.1)[0]:
                    continue
                now = time.time()
                *lines, rest = (rest + os.read(port, 4096)).split(b"\n")
                self.lines += [f"{now},{line.decode(errors='replace').strip()}" for line in lines]
        except (OSError, termios.error, AttributeError) as error:
            self.error = f"{self.spec['port']}: {error}"
        finally:
            os.close(port)

    def samples(self) -> list[tuple[float, float]]:
        """(s, W) of what was taken down; NoEnergy when nothing can be read."""
        if self.error:
            raise NoEnergy(self.error)
        if self.spec.get("file"):
            try:
                with open(self.spec["file"], newline="") as stream:
                    return parse(stream.read(), self.columns)
            except OSError as error:
                raise NoEnergy(f"{self.spec['file']}: {error.strerror}") from None
        arrival = {key: value if isinstance(value, str) else value + 1 for key, value in self.columns.items()}
        return parse("\n".join(self.lines), {**arrival, "time": 0})

    def energy(self, windows: dict, offset: float) -> dict:
        """The figure for the windows that the device reported; `offset` is our clock minus the device's, in s."""
        try:
            samples = self.samples()
            ours = {key: [t + offset for t in windows[key]] for key in ("idle", "busy", "active")}
            shift = align(samples, ours, own_clock=self.spec.get("clock") == "own")
            idle, active = ([t + shift for t in ours[key]] for key in ("idle", "active"))
            joules = [integrate(samples, *window) for window in (active, idle)]
        except NoEnergy as error:
            return {"reason": f"meter: {error}"}
        count = sum(active[0] <= t <= active[1] for t, _ in samples)
        found = figure("meter", self.spec.get("scope") or "where the meter sits", windows, *joules, count)
        return {**found, "clock_shift_s": shift}


def parse(text: str, columns: dict) -> list[tuple[float, float]]:
    """(s, W) of every line with numbers in the columns `time` and `power`, or `voltage` and `current`; a column is a
    name in the header or an index. NoEnergy when there is no such line."""
    lines = [line for line in text.splitlines() if line.strip()]
    mark = next((c for c in ";\t," if any(c in line for line in lines[:20])), " ")
    header: list[str] = []
    out = []
    for cells in csv.reader(lines, delimiter=mark, skipinitialspace=True):
        names = [cell.strip().lower() for cell in cells]
        if any(isinstance(c, str) and c.lower() in names for c in columns.values()):
            header = names
            continue
        try:
            values = {key: _number(cells[_index(column, header)]) for key, column in columns.items()}
        except (ValueError, IndexError):
            continue
        out.append((values["time"], values["power"] if "power" in values else values["voltage"] * values["current"]))
    if len(out) < 2:
        raise NoEnergy(f"no two lines with the columns {columns}")
    return sorted(out)


def _index(column: int | str, header: list[str]) -> int:
    return column if isinstance(column, int) else header.index(column.lower())


def _number(cell: str) -> float:
    """A number with or without its unit ("5.08 V")."""
    found = re.fullmatch(r"\s*([-+]?[0-9.]+(?:[eE][-+]?\d+)?)\s*[a-zA-Z]*\s*", cell)
    if not found:
        raise ValueError(cell)
    return float(found[1])


def align(samples: list[tuple[float, float]], windows: dict, own_clock: bool) -> float:
    """The seconds to add to the windows so that the work lies where the power is: the shift with the largest step
    between the idle window and the busy one. NoEnergy when no step stands out of the noise."""
    times, watts = [t for t, _ in samples], [w for _, w in samples]
    gaps = sorted(b - a for a, b in pairs(times))
    step = max(gaps[len(gaps) // 2], 1e-3)
    low, high = -SEARCH_S, SEARCH_S
    if own_clock:
        low, high = times[0] - windows["idle"][0], times[-1] - windows["busy"][1]
    best, size = None, 0.0
    for i in range(int((high - low) / step) + 1):
        shift = low + i * step
        idle, busy = (_inside(times, watts, windows[key], shift) for key in ("idle", "busy"))
        if len(idle) > 2 and len(busy) > 2:
            difference = statistics.fmean(busy) - statistics.fmean(idle)
            noise = statistics.stdev(idle) / len(idle) ** 0.5
            if difference > max(size, 5 * noise):
                best, size = shift, difference
    if best is None:
        raise NoEnergy("no load step in the meter's readings: is it on this device's supply, and its clock right?")
    return best


def _inside(times, watts, window, shift: float) -> list[float]:
    return watts[bisect_left(times, window[0] + shift) : bisect_right(times, window[1] + shift)]
