"""When a rule holds: hours of the week in a time zone, holidays, special days; computed in UTC.

An hour of the day is a wall clock's, so that every bound is turned into UTC: one that a spring night skips becomes the
first instant after the gap, one that an autumn night has twice begins at the first and ends at the second."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo

from edge.errors import ModelError
from edge.event import UTC
from edge.inference.fields import Fields
from edge.watch import reading
from edge.watch.reading import DAY

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOURS = 'hours such as "08:00-18:00"; "22:00-06:00" lasts into the next day'

Span = tuple[int, int]  # minutes after the midnight with which a day begins; the end may lie beyond 24:00


@dataclass(frozen=True)
class Hours:
    """The spans that begin on each day: of the week (Monday first), on holidays, and on special days, which go before
    holidays; `zone` is the time zone."""

    zone: tzinfo
    weekly: tuple[tuple[Span, ...], ...]
    holidays: frozenset[date] = frozenset()
    on_holidays: tuple[Span, ...] = ()
    special: dict[date, tuple[Span, ...]] = field(default_factory=dict)

    def active(self, when: datetime) -> bool:
        """Whether an instant, which has a time zone, lies in one of the spans; their ends lie outside."""
        today = when.astimezone(self.zone).date()
        return any(
            instant(day, start, self.zone, 0) <= when < instant(day, end, self.zone, 1)
            for day in (today - timedelta(days=1), today)
            for start, end in self._on(day)
        )

    def _on(self, day: date) -> tuple[Span, ...]:
        if day in self.special:
            return self.special[day]
        return self.on_holidays if day in self.holidays else self.weekly[day.weekday()]


def instant(day: date, minutes: int, zone: tzinfo, fold: int) -> datetime:
    """When a clock in the zone shows that many minutes after the midnight of a day, in UTC; of a time that it shows
    twice the first (fold 0) or second, of one that it skips the end of the gap."""
    at = day + timedelta(days=minutes // DAY)
    wall = datetime(at.year, at.month, at.day, minutes % DAY // 60, minutes % 60, fold=fold)
    found = wall.replace(tzinfo=zone).astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None, fold=0) == wall.replace(fold=0):
        return found
    before, after = (wall.replace(tzinfo=zone, fold=f).utcoffset() for f in (0, 1))  # PEP 495: of a gap, the two sides
    assert before is not None and after is not None
    low, high = sorted((wall - before, wall - after))
    while high - low > timedelta(seconds=1):  # where the clock jumps, to the second
        middle = low + (high - low) / 2
        jumped = middle.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None) >= wall.replace(fold=0)
        low, high = (low, middle) if jumped else (middle, high)
    return high.replace(microsecond=0, fold=0, tzinfo=UTC) + timedelta(seconds=high.microsecond >= 500_000)


def time_zone(name: str) -> tzinfo | None:
    """The IANA time zone of that name; None where it is none, ModelError where the system has no time zones."""
    try:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError
    except ImportError:  # a Python built without it
        raise ModelError("this Python has no zoneinfo; install Python 3.9 or newer") from None
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    try:
        ZoneInfo("Europe/Berlin")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ModelError("this system has no time zones; pip install tzdata") from None
    return None


def parse_zone(at: Fields, key: str) -> tzinfo:
    found = time_zone(at.text(key))
    if found is None:
        raise at.error(key, "the name of an IANA time zone such as Europe/Berlin")
    return found


def parse(at: Fields, zone: tzinfo) -> Hours:
    """A schedule of site.json: `weekly`, `holidays` with `on_holidays`, `special`; `timezone` where it has its own."""
    holidays = at.maybe("holidays", (), lambda key: reading.items(at, key, "a list of days", _day))
    return Hours(
        zone=at.maybe("timezone", zone, lambda key: parse_zone(at, key)),
        weekly=at.object("weekly", _week),
        holidays=frozenset(holidays),
        on_holidays=at.maybe("on_holidays", (), lambda key: spans(at, key)),
        special=at.maybe("special", {}, lambda key: at.object(key, _special)),
    )


def spans(at: Fields, key: str) -> tuple[Span, ...]:
    return reading.items(at, key, f"a list of {HOURS}", _span)


def _week(at: Fields) -> tuple[tuple[Span, ...], ...]:
    found = {day: at.maybe(day, (), lambda key: spans(at, key)) for day in WEEKDAYS}
    return tuple(found.values())


def _special(at: Fields) -> dict[date, tuple[Span, ...]]:
    return {_as_day(at, key, key): spans(at, key) for key in at.mapping()}


def _span(at: Fields, key: str) -> Span:
    text = at.get(key)
    start, _, end = text.partition("-") if isinstance(text, str) else ("", "", "")
    low, high = reading.minutes(start.strip()), reading.minutes(end.strip())
    if low is None or high is None or low in (DAY, high):
        raise at.error(key, HOURS)
    return (low, high) if high > low else (low, high + DAY)


def _day(at: Fields, key: str) -> date:
    return _as_day(at, key, at.get(key))


def _as_day(at: Fields, key: str, text: object) -> date:
    try:
        if not isinstance(text, str) or len(text) != 10:
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise ModelError(f"{at.path}: {at.prefix}{key} = {text!r:.80}: must be a day such as 2026-12-24") from None


def clock_hours(zone: tzinfo, after: int | None, before: int | None, days: tuple[str, ...] | None) -> Hours | None:
    """The hours of a rule's own `time_after`, `time_before` and `days`, None where it has none of them. Of the two
    times one alone lasts to midnight or from midnight on; the second before the first is that of the next day."""
    if after is None and before is None and days is None:
        return None
    low, high = after or 0, DAY if before is None else before
    span = (low, high) if high > low else (low, high + DAY)
    return Hours(zone, tuple((span,) if days is None or day in days else () for day in WEEKDAYS))
