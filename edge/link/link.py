"""The link: a sink of events that seals them, keeps them, and has a thread send them until they have arrived."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge.errors import UserError, reason
from edge.event import Event
from edge.link.inputs import Inputs, heard
from edge.link.keys import read_keys
from edge.link.outbox import Message, Outbox
from edge.link.parts import PART_TYPE, part, parts
from edge.link.seal import seal, sealing
from edge.link.sender import LinkError, Refused, Sender, Unheard
from edge.link.settings import Settings

EVENT_TYPE, STATS_TYPE = "cloudevents+json", "json"  # "cty" of sealed messages
PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds between attempts, doubled after each, less up to a half by chance
MOST_UNSETTLED = 1000  # messages, and no more than the outbox takes: a choice
IDLE = 1.0  # seconds between looks at a connection that has nothing to do


class Link:
    """`send(event)` returns when the event is sealed and in the outbox; a thread brings it out, in order.

    `clips` is the recorder's folder; what it holds is sent only if the site says so (`settings.clips`), when no event
    waits. `inputs` gets what comes in by MQTT. `say` is told in one line whenever the state of the link changes.
    UserError when a key, the outbox or another file of the settings can't be used.
    """

    def __init__(
        self,
        settings: Settings,
        clips: Path | None = None,
        say: Callable[[str], None] = lambda line: None,
        inputs: Inputs | None = None,
        sender: Sender | None = None,
    ):
        self._inputs = inputs
        self._key = sealing(read_keys(settings.keys), settings.keys)
        self._sender = sender or settings.sender(self._heard if inputs is not None else None)
        self._clips = clips if settings.clips else None
        self._say = say
        self._outbox = Outbox(settings.outbox, settings.most_messages, settings.most_bytes, say)
        self._sent = {"events": 0, "clips": 0}
        self._active: dict[tuple[str, str], set[str]] = {}  # ids of open events by camera and rule
        self._stats: bytes | None = None
        self._unsettled: deque[tuple[float, Message]] = deque()  # acknowledged at that time, on connection `_number`
        self._number = 0
        self._trouble = ""
        self._next = 0.0  # in trouble, the time of the next attempt
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    def announce(self, rules: Iterable[tuple[str, str]]) -> None:
        """Shows rules (camera, rule) where states are shown, before they have an event."""
        for key in rules:
            self._active.setdefault(key, set())
        self._wake.set()

    def send(self, event: Event) -> None:
        """UserError for an event that no reader would take."""
        self._outbox.put("event", seal(event.to_json(), self._key, EVENT_TYPE))
        ids = self._active.setdefault((event.camera, event.rule), set())
        (ids.discard if event.phase == "end" else ids.add)(event.id)
        if self._clips is not None and event.clip is not None:
            for name in (event.clip.picture, event.clip.name):
                if name is not None:
                    self._outbox.put("clip", name.encode(), later=True)
        self._wake.set()

    def stats(self, values: Mapping[str, Any]) -> None:
        """Sends these once, if the link is up before the next ones come; they aren't kept in the outbox, but its file
        gets the time of now as a sign of life."""
        with suppress(OSError):
            os.utime(self._outbox.path)
        self._stats = seal(json.dumps(values).encode(), self._key, STATS_TYPE)
        self._wake.set()

    @property
    def counts(self) -> dict[str, int]:
        """What became of the messages: those of the outbox, and in this run `sent_events` and `sent_clips`."""
        return {**self._outbox.counts, **{f"sent_{kind}": number for kind, number in self._sent.items()}}

    def close(self, wait: float = 5.0) -> None:
        """Ends the link; for so many seconds it goes on sending what waits, the rest is sent after the next start. It
        doesn't wait where it would not try again in that time."""
        end = time.monotonic() + wait
        while self._outbox.counts["waiting"] and max(self._next, time.monotonic()) < end:
            time.sleep(0.01)
        self._stop.set()
        self._wake.set()
        self._thread.join(max(1.0, end - time.monotonic()))  # it may wait for somebody who does not answer
        self._outbox.close()

    def _heard(self, topic: str, payload: bytes) -> None:
        assert self._inputs is not None
        try:
            heard(self._inputs, topic, payload, self._say)
        except Exception as error:  # of whoever takes it: the thread must go on
            self._say(f"{topic}: {reason(error)}")

    def _run(self) -> None:
        pause = PAUSE
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self._settle(self._sender.connect())
                self._sender.states({key: bool(ids) for key, ids in list(self._active.items())})
                self._send_stats()
                message = self._outbox.first()
                if message is not None:
                    self._deliver(message)
                pause, self._next = PAUSE, 0.0
                self._tell("")
                if message is None:
                    self._wake.wait(IDLE)
            except Exception as error:  # LinkError, and whatever else a library raises: the link goes on
                self._tell(str(error) if isinstance(error, (LinkError, UserError)) else reason(error))
                seconds = pause * random.uniform(0.5, 1)
                self._next = time.monotonic() + seconds
                self._stop.wait(seconds)
                pause = min(2 * pause, LONGEST_PAUSE)
        if not self._trouble:
            self._settle(self._number)
        self._sender.close()

    def _send_stats(self) -> None:
        stats, self._stats = self._stats, None
        if stats is not None:
            with suppress(Unheard, Refused):  # the next ones come soon
                self._sender.send("stats", stats)

    def _deliver(self, message: Message) -> None:
        """Sends a message, or one part of a clip, and takes it out of the outbox when it has arrived."""
        try:
            if message.kind == "clip":
                self._deliver_part(message)
            else:
                self._sender.send(message.kind, message.payload)
                self._sent["events"] += 1
                self._acknowledged(message)
        except Refused as error:
            self._say(str(error))
            self._outbox.done(message, "refused")

    def _deliver_part(self, message: Message) -> None:
        name = message.payload.decode()
        path = self._clips / name if self._clips is not None else None
        data = None if path is None else part(path, message.part)
        if path is None or data is None:  # deleted before it was sent, or clips aren't sent any more
            self._say(f"{name}: no longer there to be sent")
            self._outbox.done(message, "gone")
            return
        self._sender.send("clip", seal(data, self._key, PART_TYPE))
        if message.part + 1 < parts(path):
            self._outbox.part_done(message)
        else:
            self._sent["clips"] += 1
            self._acknowledged(message)

    def _acknowledged(self, message: Message) -> None:
        self._outbox.hold(message)
        self._unsettled.append((time.monotonic(), message))

    def _settle(self, number: int) -> None:
        """Takes out of the outbox what has surely arrived; what the last connection may have lost goes back."""
        if number != self._number:
            self._number = number
            self._unsettled.clear()
            self._outbox.release()
        most = min(MOST_UNSETTLED, self._outbox.most_messages)
        end = time.monotonic() - self._sender.settles
        while self._unsettled and (self._unsettled[0][0] <= end or len(self._unsettled) > most):
            self._outbox.done(self._unsettled.popleft()[1])

    def _tell(self, trouble: str) -> None:
        """Says what is wrong when it changes, and when all is well again."""
        if trouble != self._trouble:
            waiting = self._outbox.counts["waiting"]
            self._say(f"{trouble or 'the link is up again'}; {waiting} messages wait")
        self._trouble = trouble
