"""When and where something is normal: thresholds of anomaly scores by time slot, weekday, zone and operational state,
learned of what the scores are in normal operation."""

from __future__ import annotations

import json
import math
import random
import threading
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from edge import disk
from edge.errors import ModelError, UserError
from edge.inference.fields import Fields
from edge.inference.jsonfile import read_json
from edge.watch import reading
from edge.watch.schedule import WEEKDAYS, Hours

SLOTS = 6  # of four hours
MOST_SCORES = 250  # kept of a context
MOST_CONTEXTS = 1000  # so that the file stays below the limit of `read_json`
SCHEMA = 1


@dataclass(frozen=True)
class Context:
    """The circumstances of a frame, in local time. Its parents are less and less particular."""

    when: datetime
    zone: str = ""
    state: str = ""

    @property
    def slot(self) -> str:
        start = self.when.hour // (24 // SLOTS) * (24 // SLOTS)
        return f"{start:02}-{start + 24 // SLOTS:02}"

    @property
    def weekday(self) -> str:
        return WEEKDAYS[self.when.weekday()]

    @property
    def keys(self) -> tuple[str, ...]:
        """Its own key, "zone|state|slot|weekday", and its parents': every day, every hour, every state."""
        zone, state = self.zone, self.state
        parts = (zone, state, self.slot, self.weekday), (zone, state, self.slot, "*"), (zone, state, "*", "*")
        return tuple("|".join(part) for part in (*parts, (zone, "*", "*", "*")))

    def vector(self, zones: tuple[str, ...], states: tuple[str, ...]) -> list[float]:
        """Time of the day and of the week as points on a circle, zone and state one-hot."""
        day = (self.when.hour * 60 + self.when.minute) / 1440
        week = (self.when.weekday() + day) / 7
        circle = [f(2 * math.pi * t) for t in (day, week) for f in (math.sin, math.cos)]
        one_hot = [float(name == self.zone) for name in zones] + [float(name == self.state) for name in states]
        return circle + one_hot


@dataclass
class _Scores:
    """A fair sample of the scores of one context (reservoir sampling: Vitter, 1985), and how many there were."""

    kept: list[float] = field(default_factory=list)
    seen: int = 0

    def add(self, score: float, rng: random.Random) -> None:
        self.seen += 1
        if len(self.kept) < MOST_SCORES:
            self.kept.append(score)
        elif (place := rng.randrange(self.seen)) < MOST_SCORES:
            self.kept[place] = score

    def quantile(self, share: float) -> float:
        """As numpy's, linear between neighbours."""
        ordered = sorted(self.kept)
        at = share * (len(ordered) - 1)
        low = int(at)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (at - low) * (ordered[high] - ordered[low])


@dataclass
class Contexts:
    """The contexts of a site, and what was learned. A threshold is `quantile` of a context's scores times `margin`, and
    no less than `floor` times the model's own; with fewer than `least` scores it is that of the parent context, and at
    last the model's. `states` are schedules: the first that holds names the state."""

    zone: tzinfo
    states: dict[str, Hours] = field(default_factory=dict)
    learn: bool = False
    quantile: float = 0.99
    margin: float = 1.2
    floor: float = 0.5
    least: int = 100
    file: Path | None = None
    _scores: dict[str, _Scores] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)  # each camera has its thread
    _rng: random.Random = field(default_factory=lambda: random.Random(0), repr=False)

    def at(self, when: datetime, zone: str = "") -> Context:
        state = next((name for name, hours in self.states.items() if hours.active(when)), "")
        return Context(when.astimezone(self.zone), zone, state)

    def add(self, model: str, context: Context, score: float) -> None:
        """Takes a score of normal operation."""
        if not math.isfinite(score):  # of a zone so narrow that it has no pixel of the map
            return
        with self._lock:
            for key in context.keys:
                key = f"{model}|{key}"
                if key in self._scores or len(self._scores) < MOST_CONTEXTS:
                    self._scores.setdefault(key, _Scores()).add(score, self._rng)

    def threshold(self, model: str, context: Context, own: float) -> float:
        """The threshold of a context; `own` is the model's."""
        for key in context.keys:
            scores = self._scores.get(f"{model}|{key}")
            if scores is not None and len(scores.kept) >= self.least:
                return max(self.margin * scores.quantile(self.quantile), self.floor * own)
        return own

    def save(self) -> None:
        """Writes what was learned, whole or not at all; UserError when it can't be."""
        if self.file is None or not self.learn:
            return
        with self._lock:
            content = {k: {"seen": s.seen, "scores": [round(v, 6) for v in s.kept]} for k, s in self._scores.items()}
        try:
            disk.write(self.file, json.dumps({"schema": SCHEMA, "contexts": content}, allow_nan=False).encode())
        except OSError as error:
            raise UserError(f"{self.file}: can't be written: {error.strerror or error}") from None

    def load(self) -> None:
        """Reads what was learned before; nothing where there is no file yet."""
        if self.file is None:
            return
        try:
            raw = read_json(self.file)
        except FileNotFoundError:
            return
        self._scores = Fields(self.file, raw).parsed(_learned)


def _learned(at: Fields) -> dict[str, _Scores]:
    at.choice("schema", SCHEMA)
    return at.object("contexts", lambda inner: {key: inner.object(key, _one) for key in inner.mapping()})


def _one(at: Fields) -> _Scores:
    values = at.get("scores")
    if not isinstance(values, list) or len(values) > MOST_SCORES:
        raise at.error("scores", f"a list of at most {MOST_SCORES} numbers")
    inner = Fields(at.path, {str(i): value for i, value in enumerate(values)}, f"{at.prefix}scores.")
    kept = [inner.number(str(i)) for i in range(len(values))]
    return _Scores(kept, at.whole("seen", len(kept)))


def parse_contexts(at: Fields, zone: tzinfo, schedules: dict[str, Hours], folder: Path) -> Contexts:
    """The section `context` of site.json."""
    states = at.maybe("states", (), lambda key: reading.names(at, key))
    for name in states:
        if name not in schedules:
            raise at.error("states", "names of schedules: " + (", ".join(schedules) or "the site has none"))
    found = Contexts(
        zone=zone,
        states={name: schedules[name] for name in states},
        learn=at.maybe("learn", False, lambda key: reading.flag(at, key)),
        quantile=at.maybe("quantile", 0.99, lambda key: at.number(key, 0.5, high=1)),
        margin=at.maybe("margin", 1.2, lambda key: at.number(key, 0, open_low=True, high=100)),
        floor=at.maybe("floor", 0.5, lambda key: at.number(key, 0, high=100)),
        least=at.maybe("least", 100, lambda key: at.whole(key, 1, MOST_SCORES)),
        file=at.maybe("file", None, lambda key: folder / at.text(key)),
    )
    if found.learn and found.file is None:
        raise ModelError(f"{at.path}: {at.prefix}file: missing field; learn needs a file to keep what was learned")
    return found


def describe(context: Context) -> dict[str, Any]:
    """The context as an event carries it."""
    return {"slot": context.slot, "weekday": context.weekday, "state": context.state or "none"}
