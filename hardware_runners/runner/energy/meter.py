"""A power meter that this computer reads, not the device: a serial port that prints lines (pyserial), or a CSV file
that the meter's own program writes. The load step of the measurement itself brings the clocks together."""

from __future__ import annotations

import csv
import errno
import os
import re
import statistics
import threading
import time
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any

from hardware_runners.runner.energy import NoEnergy, figure, integrate, pairs

if TYPE_CHECKING:
    import serial

COLUMNS: dict[str, int | str] = {"time": "time", "power": "power"}
WAIT_S = 0.1  # how long a silent port may hold up the end of a recording
SEARCH_S = 3.0  # how far a clock that claims to be right may be off: a choice, well below the idle window of 10 s
MIN_STEP_S = 1e-3  # shifts are tried in steps of the meter's own rate, but no finer (lines may arrive at the same time)
SIGMAS = 5  # normal noise is above so many standard errors at 3 of 10 million shifts; some thousand are tried


class Recorder:
    """Records a meter between `with` and its end; `energy` then reads the windows out of the recording. `spec` is the
    `energy` section of an inventory file. What goes wrong becomes the reason for having no figure."""

    def __init__(self, spec: dict[str, Any]):
        self.spec = spec
        self.columns: dict[str, int | str] = spec.get("columns") or COLUMNS
        self.lines: list[str] = []  # of the serial port
        self.arrivals: list[float] = []  # of each line, s since 1970
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None
        self.error: str | None = None

    def __enter__(self) -> Recorder:
        if self.spec.get("port"):
            self._open(self.spec["port"])
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        if self.thread:
            self.thread.join()

    def _open(self, name: str) -> None:
        try:
            import serial
        except ImportError:
            self.error = f"{name}: a serial port needs pyserial: pip install pyserial"
            return
        try:
            port = serial.Serial(name, self.spec["baud"], timeout=WAIT_S, exclusive=True)
        except (OSError, ValueError) as error:
            self.error = f"{name}: {_reason(error)}"
            return
        self.thread = threading.Thread(target=self._record, args=(port,), daemon=True)
        self.thread.start()

    def _record(self, port: serial.Serial) -> None:
        """Keeps whole lines until the recording ends or the meter is gone."""
        rest = b""
        try:
            with port:
                while not self.stop.is_set():
                    begun = time.monotonic()
                    read = port.read(port.in_waiting or 1)
                    now = time.time()
                    if not read and time.monotonic() - begun < WAIT_S / 2:  # asking on would disturb what is timed
                        raise OSError("the meter is unplugged: its port reads nothing without waiting")
                    *lines, rest = (rest + read).split(b"\n")
                    self.lines += [line.decode(errors="replace") for line in lines]
                    self.arrivals += [now] * len(lines)
        except OSError as error:
            self.error = f"{self.spec['port']}: {_reason(error)}"

    def samples(self) -> list[tuple[float, float]]:
        """The recorded (s, W); NoEnergy when there are none."""
        if self.error:
            raise NoEnergy(self.error)
        if self.spec.get("file"):
            try:
                with open(self.spec["file"], newline="", errors="replace") as stream:
                    return parse(stream.readlines(), self.columns)
            except OSError as error:
                raise NoEnergy(f"{self.spec['file']}: {_reason(error)}") from None
        return parse(self.lines, self.columns, self.arrivals)

    def energy(self, windows: dict[str, Any], offset: float) -> dict[str, Any]:
        """The figure for the windows that the device reported; `offset` is our clock minus the device's, in s."""
        try:
            samples = self.samples()
            ours = {key: [t + offset for t in windows[key]] for key in ("idle", "busy", "active")}
            shift = align(samples, ours, own_clock=self.spec.get("clock") == "own")
            idle, active = ([t + shift for t in ours[key]] for key in ("idle", "active"))
            active_j, idle_j = (integrate(samples, *window) for window in (active, idle))
        except NoEnergy as error:
            return {"reason": f"meter: {error}"}
        count = sum(active[0] <= t <= active[1] for t, _ in samples)
        scope = self.spec.get("scope") or "where the meter sits"
        found = figure("meter", scope, windows, active_j, idle_j, count)
        return {**found, "clock_shift_s": shift}


def _reason(error: Exception) -> str:
    """What is wrong with a file or port, without the number and the name that the system puts in front."""
    code = getattr(error, "errno", None)
    return "another program reads it" if code == errno.EAGAIN else os.strerror(code) if code else str(error)


def parse(
    lines: list[str], columns: dict[str, int | str], arrivals: list[float] | None = None
) -> list[tuple[float, float]]:
    """(s, W) of every line with numbers in the columns `time` (else the line's time of arrival) and `power`, or
    `voltage` and `current`; a column is a name in the header or an index, separated by what most lines hold of
    ; tab , and space. NoEnergy when there are no two such lines."""
    separator = max(";\t, ", key=lambda mark: sum(mark in line for line in lines))
    wanted = {key: column for key, column in columns.items() if key != "time" or arrivals is None}
    header: list[str] = []
    out = []
    for i, line in enumerate(lines):
        try:
            cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
            names = [cell.strip().lower() for cell in cells]
            if any(isinstance(column, str) and column.lower() in names for column in wanted.values()):
                header = names
                continue
            values = {key: _number(cells[_index(column, header)]) for key, column in wanted.items()}
        except (csv.Error, ValueError, IndexError):  # a line cut by the start of the recording, a remark
            continue
        power = values["power"] if "power" in values else values["voltage"] * values["current"]
        out.append((values["time"] if arrivals is None else arrivals[i], power))
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


def align(samples: list[tuple[float, float]], windows: dict[str, list[float]], own_clock: bool) -> float:
    """The seconds to add to the windows so that they lie where the power says: the shift with the largest step of the
    mean from the idle window to the busy one. `own_clock`: the meter's clock counts from anywhere, so every shift that
    the recording allows is tried. NoEnergy when no step is above SIGMAS standard errors of the idle mean."""
    times, watts = [t for t, _ in samples], [w for _, w in samples]
    gaps = [b - a for a, b in pairs(times)]
    step = max(statistics.median_high(gaps), MIN_STEP_S)
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
            if difference > max(size, SIGMAS * noise):
                best, size = shift, difference
    if best is None:
        raise NoEnergy("no load step in the meter's readings: is it on this device's supply, and its clock right?")
    return best


def _inside(times: list[float], watts: list[float], window: list[float], shift: float) -> list[float]:
    return watts[bisect_left(times, window[0] + shift) : bisect_right(times, window[1] + shift)]
