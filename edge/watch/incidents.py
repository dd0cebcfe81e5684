"""From what a rule finds in each frame to events: new, updates, end; cooldown, escalation, dismissal."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from edge.watch.rule import Cycle, Finding

MOST_OPEN = 100  # events of one rule at once
HIGHER = 1.2  # a score that rises so many times is an update
SEVERITIES = ("warning", "alarm")


@dataclass
class Incident:
    """Something that a rule found and that has not ended."""

    id: str
    finding: Finding  # the latest
    began: float  # seconds
    found: float  # seconds, the last time
    told: float  # seconds of the last message
    when: datetime  # of `found`
    peak: float | None = None
    sequence: int = -1  # of the latest message
    severity: str = SEVERITIES[0]
    ended_by: str = ""


@dataclass
class Incidents:
    """The events of one rule over one camera. `tell(phase, incident)` is called for each message."""

    cycle: Cycle
    tell: Callable[[str, Incident], None]
    refused: int = 0  # findings beyond MOST_OPEN at once
    suppressed: int = 0  # findings that would have been new within cooldown or after a dismissal
    _open: dict[Hashable, Incident] = field(default_factory=dict)
    _quiet: dict[Hashable, float] = field(default_factory=dict)  # until when a key is not reported anew
    _hushed: set[Hashable] = field(default_factory=set)  # suppressed as long as they hold

    def step(self, findings: Iterable[Finding], now: float, when: datetime) -> None:
        """Takes what the rule found in a frame."""
        found = {finding.key: finding for finding in findings}
        self._quiet = {key: until for key, until in self._quiet.items() if until > now}
        for key, finding in found.items():
            incident = self._open.get(key)
            if incident is not None:
                self._go_on(incident, finding, now, when)
            elif key in self._quiet:
                self.suppressed += key not in self._hushed
                self._hushed.add(key)
            elif len(self._open) >= MOST_OPEN:
                self.refused += 1
            else:
                self._open[key] = incident = Incident(str(uuid.uuid4()), finding, now, now, now, when, finding.score)
                self._say("new", incident, now)
        self._hushed &= set(found)
        for key, incident in list(self._open.items()):
            if key not in found and now - incident.found >= self.cycle.end_after:
                self._end(key, now, "over")

    def dismiss(self, event: str, now: float) -> bool:
        """A person says that an event is none: it ends, and the same is not reported again for a while."""
        for key, incident in list(self._open.items()):
            if incident.id == event:
                self._end(key, now, "dismissed")
                self._quiet[key] = now + self.cycle.dismissed
                return True
        return False

    def close(self, now: float, why: str = "stopped") -> None:
        """Ends everything."""
        for key in list(self._open):
            self._end(key, now, why)

    @property
    def open(self) -> list[Incident]:
        return list(self._open.values())

    def _go_on(self, incident: Incident, finding: Finding, now: float, when: datetime) -> None:
        incident.finding, incident.found, incident.when = finding, now, when
        after = self.cycle.escalate_after
        worse = after is not None and now - incident.began >= after and incident.severity != SEVERITIES[-1]
        higher = finding.score is not None and finding.score > HIGHER * abs(incident.peak or 0.0)
        if worse:
            incident.severity = SEVERITIES[-1]
        if finding.score is not None and (higher or incident.peak is None):
            incident.peak = finding.score
        if worse or higher or (self.cycle.update and now - incident.told >= self.cycle.update):
            self._say("update", incident, now)

    def _end(self, key: Hashable, now: float, why: str) -> None:
        incident = self._open.pop(key)
        incident.ended_by = why
        self._quiet[key] = now + self.cycle.cooldown
        self._say("end", incident, now)

    def _say(self, phase: str, incident: Incident, now: float) -> None:
        incident.sequence += 1
        incident.told = now
        self.tell(phase, incident)
