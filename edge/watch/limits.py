"""The parts of a sentence that say where, when and for how long."""

from __future__ import annotations

import re
from typing import Any

from edge.watch import words as w
from edge.watch.phrases import Phrases, one
from edge.watch.schedule import WEEKDAYS


class Limits(Phrases):
    """`limits` takes as many of them as stand here, and adds them to the rule."""

    def limits(self) -> None:
        while True:
            before = self.at
            self.take(",")
            self.take("and")
            if not (self.daypart() or self.days() or self.clock() or self.duration() or self.other() or self.place()):
                self.at = before
                return

    def set(self, start: int, **values: Any) -> bool:
        """Adds to the rule; what was said before can't be said again."""
        if any(key in self.found for key in values):
            self.refuse("this only once", start=start)
        self.found.update(values)
        return True

    def daypart(self) -> bool:
        start = self.at
        phrase = self.take(*w.DAYPARTS)
        if not phrase:
            return False
        if self.peek(*w.HOURS):  # "during the night shift" is a schedule
            self.at = start
            return False
        low, high = w.DAYPARTS[phrase]
        return self.set(start, time_after=low, time_before=high)

    def days(self) -> bool:
        start = self.at
        if self.take(*w.EVERY_DAY):
            return True
        on = self.take("on", "at", "during", "from", "every")
        days: list[str] = []
        while True:
            if self.take(*w.WEEKENDS):
                days += WEEKDAYS[5:]
            elif self.take(*w.WORKDAYS):
                days += WEEKDAYS[:5]
            else:
                day = self.a_day()
                if day is None:
                    break
                last = self.a_day() if self.take("to", "through", "until", "-") else day
                if last is None:
                    self.refuse()
                first, count = WEEKDAYS.index(day), (WEEKDAYS.index(str(last)) - WEEKDAYS.index(day)) % 7
                days += [WEEKDAYS[(first + i) % 7] for i in range(count + 1)]
            after = self.at
            self.take(",")
            self.take("and", "or")
            self.take("on")
            if not (self.peek(*w.WEEKENDS, *w.WORKDAYS) or self.a_day(look=True)):
                self.at = after
                break
        if not days or (not on and start == self.at):
            self.at = start
            return False
        return self.set(start, days=sorted(set(days), key=WEEKDAYS.index))

    def a_day(self, look: bool = False) -> str | None:
        for day, phrases in w.DAYS.items():
            if self.peek(*phrases) if look else self.take(*phrases):
                return day
        return None

    def clock(self) -> bool:
        start = self.at
        if self.take("between", "from"):
            low = self.time()
            if low is None:
                self.at = start
                return False
            self.take("and", "to", "until", "till", "-") or self.refuse()
            return self.set(start, time_after=low, time_before=self.time(end=True) or self.refuse())
        if self.take("after", "later than"):
            return self.set(start, time_after=self.time() or self.refuse())
        if self.take("before", "until", "till", "earlier than"):
            return self.set(start, time_before=self.time(end=True) or self.refuse())
        return False

    def time(self, end: bool = False) -> str | None:
        """A time of day; midnight is 24:00 where something ends."""
        start = self.at
        if self.take("midnight"):
            return "24:00" if end else "00:00"
        if self.take("noon", "midday"):
            return "12:00"
        token = self.tokens[self.at] if self.at < len(self.tokens) else ""
        match = re.fullmatch(r"(\d{1,2})(?:[:.](\d\d))?", token)
        if not match:
            return None
        self.at += 1
        hour, minute = int(match[1]), int(match[2] or 0)
        half = self.take("am", "pm", "o'clock", "hours")
        if half in ("am", "pm"):
            if not 1 <= hour <= 12:
                self.refuse("a time of day", start=start)
            hour = hour % 12 + 12 * (half == "pm")
        elif match[2] is None and half is None:
            self.refuse("a time of day: am or pm?", start=start)
        if hour > 23 or minute > 59:
            self.refuse("a time of day", start=start)
        return f"{hour:02}:{minute:02}"

    def duration(self) -> bool:
        start = self.at
        given = self.take(*w.LASTING)
        seconds = self.span() if given else None
        if seconds is not None:
            return self.set(start, seconds=seconds)
        if given and given.startswith("for"):
            self.refuse("a duration such as 'for 30 seconds'", start=start)
        self.at = start
        return False

    def span(self) -> float | None:
        """Seconds of "30 seconds", "a minute", "half an hour", "1 minute and 30 seconds"."""
        total: float | None = None
        while True:
            start, half = self.at, self.take("half a", "half an")
            number = 0.5 if half else 1.0 if self.take("a", "an") else self.number()
            factor = next((f for f, units in w.UNITS.items() if number is not None and self.take(*units)), None)
            if number is None or factor is None:
                self.at = start
                return total
            total = (total or 0) + number * factor
            total = int(total) if total == int(total) else total
            start = self.at
            if not (self.take("and") and self.number() is not None):
                self.at = start
                return total
            self.at = start + 1

    def other(self) -> bool:
        start = self.at
        if self.take("at most once every", "at most every", "not more often than every", "no more than once every"):
            return self.set(start, cooldown=self.span() or self.refuse("a duration"))
        for phrases, direction in ((w.INWARDS, "in"), (w.OUTWARDS, "out"), (w.EITHER, "any")):
            if self.found.get("rule") == "line" and self.take(*phrases):
                return self.set(start, direction=direction)
        if self.take("on camera", "at camera", "in camera", "by camera"):
            return self.set(start, camera=self.name("camera", self.known.cameras))
        if self.take("while"):
            return self.set(start, **(self.sensor_state() or self.refuse("a sensor that is on or off", start=start)))
        key = {"during": "schedule", "within": "schedule", "outside of": "outside", "outside": "outside"}
        phrase = self.take(*key)
        if not phrase:
            return False
        here = self.at
        name = self.maybe_name(self.known.schedules)
        if name is None or (self.known.schedules is None and name.split()[-1] not in w.HOURS):
            if phrase == "within":
                self.at = start
                return False
            known = ", ".join(self.known.schedules) if self.known.schedules else "such as 'opening hours'"
            self.refuse(f"a schedule: {known}", start=here)
        return self.set(start, **{key[phrase]: name})

    def sensor_state(self) -> dict[str, Any] | None:
        """ "The door sensor is on"; None where no sensor is meant."""
        for phrases, more in ((w.ON, {}), (w.OFF, {"sensor_is": False})):
            end = self.ahead(phrases)
            if end is not None and "sensor" in self.tokens[self.at + 1 : end][-1:]:
                name = self.name_until(end, "sensor", self.known.sensors)
                self.take(*phrases)
                return {"sensor": name, **more}
        return None

    def place(self) -> bool:
        if self.peek("at least", "at most") or not self.take(*w.PLACES):
            return False
        self.zone()
        return True

    def zone(self) -> None:
        start = self.at
        found = [self.name("zone", self.known.zones)]
        while self.peek("or the", "and the"):
            self.at += 1
            found.append(self.name("zone", self.known.zones))
        self.set(start, zone=one(found))
