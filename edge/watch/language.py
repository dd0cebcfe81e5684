"""English to the JSON of a rule, by a grammar: what it doesn't know is named, never guessed.

    sentence   := limit* [action [when]] limit* condition limit* [action]
    condition  := objects predicate | "there is/are" objects | "nobody" predicate | unusual | crowd | fall
                | "the camera is covered" | the ZONE "is empty/crowded" | the NAME "sensor is on/off"
    objects    := [amount] class {"or" class}             amount := more than 3 | at least two | no | a | ...
    predicate  := enters ZONE | is | stays | moves against the flow | moves faster than 2 m/s | crosses LINE
                | falls | gather | goes from ZONE to ZONE without passing ZONE
    limit      := in ZONE | after/before TIME | between TIME and TIME | at night | on DAYS | for DURATION
                | during/outside SCHEDULE | on camera NAME | while the NAME sensor is on | at most every DURATION

The phrases are those of `edge.watch.words`."""

from __future__ import annotations

from typing import Any

from edge.watch import words as w
from edge.watch.limits import Limits
from edge.watch.phrases import Known, NotUnderstood, one

LONGEST = 500  # characters of a sentence


def to_rule(text: str, known: Known | None = None) -> dict[str, Any]:
    """The rule that a sentence asks for, as it stands in site.json; NotUnderstood names what is not understood."""
    if len(text) > LONGEST:
        raise NotUnderstood(f"a sentence of {len(text)} characters: must have at most {LONGEST}")
    return Parser(text, known or Known()).sentence()


class Parser(Limits):
    """Recursive descent over the words of one sentence."""

    def sentence(self) -> dict[str, Any]:
        self.limits()
        action = self.action()
        if action:
            self.take(",")
            self.take(*w.WHEN)
        self.limits()
        self.take(*w.WHEN)
        self.condition()
        self.limits()
        late = self.action()
        if late and action:
            self.refuse(back=1)
        self.limits()
        self.take(".", "!")
        if self.at < len(self.tokens):
            self.refuse()
        kind = self.found.pop("rule")
        rule = {**({} if kind == "presence" else {"rule": kind}), **self.found, "action": action or late or "alert"}
        self.check(rule)
        return rule

    def check(self, rule: dict[str, Any]) -> None:
        """NotUnderstood for what makes no sense together."""
        kind = rule.get("rule", "presence")
        if kind == "against_flow" and "zone" not in rule:
            raise NotUnderstood(
                f"{self.text}: against the flow of which zone? say where, such as 'in the delivery bay'"
            )
        if kind == "speed" and "zone" not in rule:
            raise NotUnderstood(f"{self.text}: a speed in which zone? say where, such as 'in the car park'")
        if kind in ("line", "route") and "seconds" in rule:
            raise NotUnderstood(f"{self.text}: not understood: a duration of what happens in an instant")
        if kind == "crowding" and rule.get("at_least", 2) < 2:
            raise NotUnderstood(f"{self.text}: not understood: a crowd of one")
        if "time_after" in rule and rule["time_after"] == rule.get("time_before"):
            raise NotUnderstood(f"{self.text}: from {rule['time_after']} to {rule['time_before']} is no time")

    def action(self) -> str | None:
        self.take(",")
        self.take("and")
        for action, phrases in w.ACTIONS.items():
            if self.take(*phrases):
                return action
        return None

    def condition(self) -> None:
        found = self.found
        self.there = self.take("there is", "there are", "there's") is not None
        if self.take(*w.COVERED):
            found["rule"] = "camera_covered"
        elif self.take(*w.UNUSUAL):
            found["rule"] = "anomaly"
            self.take(*w.HAPPENS)
        elif self.take("a crowd", "crowds", "a group", "groups"):
            self.crowd()
        elif self.take("a fall"):
            found["rule"] = "fall"
            self.take(*w.HAPPENS)
        elif self.take(*w.NOBODY):
            self.absent(["person"])
        elif self.take(*w.ANYBODY):
            self.predicate(None, ["person"])
        elif self.take(*w.ANYTHING):
            self.predicate(None, [])
        elif not self.named_state():
            amount = self.amount()
            self.predicate(amount, self.objects())

    def crowd(self) -> None:
        self.found["rule"] = "crowding"
        if self.take("of"):
            start = self.at
            amount = self.amount() or {}
            objects = self.objects()
            if "at_least" not in amount:
                self.refuse("a number such as 'at least 5'", start=start)
            self.found.update(amount, object=one(objects))
        self.take(*w.FORMS)

    def absent(self, objects: list[str]) -> None:
        self.found["rule"] = "absence"
        if objects:
            self.found["object"] = one(objects)
        if self.take(*w.ENTERS):
            self.zone()
        else:
            self.take(*w.IS_THERE, *w.LOITERS)

    def named_state(self) -> bool:
        """A zone that is empty or crowded, or a sensor that is on: what has a name comes first."""
        for phrases, rule in ((w.EMPTY, "absence"), (w.CROWDED, "crowding")):
            end = self.ahead(phrases)
            if end is not None and end > self.at:
                self.found.update(rule=rule, zone=self.name_until(end, "zone", self.known.zones), object="person")
                self.take(*phrases)
                return True
        sensor = self.sensor_state()
        self.found.update({"rule": "sensor", **sensor} if sensor else {})
        return sensor is not None

    def amount(self) -> dict[str, int] | None:
        """How many; {} for one or any, {"at_most": 0} for none, None where nothing is said."""
        start = self.at
        for bound, step, phrases in (
            ("at_least", 1, ("more than", "over")),
            ("at_least", 0, ("at least", "no fewer than")),
            ("at_most", -1, ("fewer than", "less than", "under")),
            ("at_most", 0, ("at most", "no more than", "not more than", "up to")),
            ("exactly", 0, ("exactly",)),
        ):
            if self.take(*phrases):
                number = self.number()
                if number is None or number != int(number) or number + step < (1 if bound == "at_least" else 0):
                    self.refuse(start=start)
                return {bound: int(number) + step}
        if self.take("no"):
            return {"at_most": 0}
        if self.take("any", "the", "another") or (not self.peek("a dozen") and self.take("a", "an")):
            return {}
        number = self.number()
        if number is None:
            return None
        if number != int(number):
            self.refuse(start=start)
        self.take("or more")
        return {} if number == 1 else {"at_least": int(number)}

    def objects(self) -> list[str]:
        """The classes of objects; [] for any."""
        found = list(self.a_class())
        while self.peek("or", "and"):
            self.at += 1
            self.take("a", "an", "any", "the")
            found += self.a_class()
        return list(dict.fromkeys(found))

    def a_class(self) -> tuple[str, ...]:
        phrase = self.take(*w.CLASSES)
        return self.refuse("something that is seen, such as a person or a car") if phrase is None else w.CLASSES[phrase]

    def predicate(self, amount: dict[str, int] | None, objects: list[str]) -> None:
        start, found = self.at, self.found
        if objects:
            found["object"] = one(objects)
        if amount == {"at_most": 0}:
            return self.absent(objects)
        if self.take(*w.GATHERS):
            found.update(rule="crowding", **(amount or {}))
            if amount and "at_least" not in amount:
                self.refuse(start=start)
            return None
        single = self.movement()
        if single:
            found["rule"] = single
            if amount:
                self.refuse("one of them: this is about each for itself", start=start)
            return None
        if self.take(*w.ENTERS):
            self.zone()
        elif not self.take(*w.IS_THERE) and not self.there and not self.peek(*w.PLACES):
            self.refuse("what it does, such as 'enters the hall'")
        found.update({"rule": "count", **amount} if amount else {"rule": "presence"})
        return None

    def movement(self) -> str | None:
        """A predicate about each object for itself."""
        start = self.at
        if self.take(*w.FALLS):
            return "fall"
        if self.take(*w.CROSSES):
            self.line()
            return "line"
        if self.take("exceeds", "exceed"):
            self.speed()
            return "speed"
        if self.take(*w.MOVES, "is", "are"):
            if self.take(*w.AGAINST):
                return "against_flow"
            if self.take("faster than", "at more than", "over", "quicker than"):
                self.speed()
                return "speed"
            if self.take("from"):
                return self.route()
            self.at = start
        if self.take(*w.LOITERS):
            return "loitering"
        return None

    def route(self) -> str:
        self.found["start"] = self.name("zone", self.known.zones)
        self.take("to", "into", "through") or self.refuse()
        self.zone()
        self.take(*w.WITHOUT) or self.refuse()
        self.found["via"] = self.name("zone", self.known.zones)
        return "route"

    def line(self) -> None:
        start = self.at
        name = self.name("line", self.known.lines)
        if name == "line":
            self.refuse("which line", start=start)
        if self.known.lines is None and "line" in name.split()[:-1]:
            self.refuse("nothing more of its name", start=self.at - len(name.split()) + name.split().index("line") + 1)
        self.take("line")
        self.found["line"] = name.removesuffix(" line") if self.known.lines is None else name

    def speed(self) -> None:
        start, value = self.at, self.number()
        for factor, units in w.SPEEDS.items():
            if value and self.take(*units):
                self.found["metres_per_second"] = round(value * factor, 3)
                return
        self.refuse("a speed such as 2 m/s or 20 km/h", start=start)
