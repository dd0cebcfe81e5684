"""The event: what a device tells the world, as CloudEvents 1.0 JSON (https://github.com/cloudevents/spec, v1.0.2).

An event of the world (a person in a zone) makes several messages: new, any number of updates, end. They share the
event's `id` and count up in `sequence`; a message is told from all others by `source` and `id` of its CloudEvent, by
which whoever stores messages drops those that arrive twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import quote, unquote

from edge.errors import UserError
from edge.inference.fields import Fields
from edge.inference.jsonfile import MOST_BYTES, parsed

UTC = timezone.utc  # noqa: UP017 (datetime.UTC came with Python 3.11)
PHASES = ("new", "update", "end")
TYPE = "edge-vision.event."  # and the phase
SOURCE = "/devices/"  # and the device's name, percent-encoded: a URI reference
LONGEST = 200  # characters of a name
MOST_OBJECTS = 1000
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)  # of RFC 3339, in UTC
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SeenObject:
    """What a detector or tracker saw: its class, its box (left, top, width, height) in fractions of the frame, the
    detector's score from 0 to 1, and the number of its track, if it has one."""

    label: str  # "class" in JSON
    box: tuple[float, float, float, float]
    score: float
    track: int | None = None


@dataclass(frozen=True)
class Model:
    """The model that judged: its name and the sha256 of its file."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Example:
    """A labelled picture of a catalogue of types, and how far the defect is from it."""

    type: str
    picture: str
    distance: float


@dataclass(frozen=True)
class Defect:
    """What kind of defect it is, with the keys of `predict --json`: "unknown", or the type with most of the `votes`
    (shares of the nearest examples); `distance` is that of the nearest one."""

    type: str
    votes: Mapping[str, float]
    distance: float
    nearest: tuple[Example, ...]


@dataclass(frozen=True)
class Clip:
    """A recorded clip in the device's folder of clips: file name, sha256, bytes and seconds of the video, and the file
    name of the JPEG of its peak."""

    name: str
    sha256: str
    bytes: int
    seconds: float
    picture: str | None = None


@dataclass(frozen=True)
class Event:
    """One message of an event. `rule` is the name that the site gave the rule, `kind` what the rule is (loitering);
    `time` has a time zone, and goes out in UTC. Score, threshold and model are those of the anomaly model, if any, and
    `defect` what its catalogue of types says."""

    id: str
    phase: str
    device: str
    camera: str
    rule: str
    kind: str
    time: datetime
    sequence: int = 0  # of the messages of this event: 0 for new, then one more each
    zone: str | None = None
    context: Mapping[str, str | float | bool] = field(default_factory=dict)  # slot, weekday, state, ...
    objects: tuple[SeenObject, ...] = ()
    score: float | None = None
    threshold: float | None = None
    model: Model | None = None
    clip: Clip | None = None
    defect: Defect | None = None

    @property
    def message(self) -> str:
        """The id of the CloudEvent, unique on the device."""
        return f"{self.id}/{self.sequence}"

    def to_json(self) -> bytes:
        """The CloudEvent; UserError for a value that no reader would take."""
        try:
            text = json.dumps(_cloudevent(self), separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise UserError(f"event {self.id}: can't be written: {error}") from None
        from_json(text.encode(), f"event {self.id}")
        return text.encode()


class Sink(Protocol):
    """Whatever takes events: an outbox, a recorder that passes them on, a list in a test."""

    def send(self, event: Event) -> None: ...


def from_json(data: bytes, where: str = "event") -> Event:
    """The event of a CloudEvent; UserError, which begins with `where`, names the first field that is wrong."""
    path = Path(where)
    if len(data) > MOST_BYTES:
        raise UserError(f"{where}: more than {MOST_BYTES >> 20} MiB; this is no event")
    return _event(Fields(path, parsed(path, data)))  # what others add beside ours (traceparent) is no fault


def _cloudevent(event: Event) -> dict[str, Any]:
    if event.time.tzinfo is None:
        raise ValueError("its time has no time zone")
    time = event.time.astimezone(UTC)
    data: dict[str, Any] = {
        "event": event.id,
        "camera": event.camera,
        "rule": event.rule,
        "kind": event.kind,
        "zone": event.zone,
        "context": dict(event.context),
        "objects": [{"class": o.label, "box": o.box, "score": o.score, "track": o.track} for o in event.objects],
        "score": event.score,
        "threshold": event.threshold,
        "model": event.model and vars(event.model),
        "clip": event.clip and vars(event.clip),
    }
    if event.defect:
        data["defect"] = asdict(event.defect)
    return {
        "specversion": "1.0",
        "id": event.message,
        "source": SOURCE + quote(event.device, safe=""),
        "type": TYPE + event.phase,
        "subject": event.camera,
        "time": time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z",
        "sequence": f"{event.sequence:010d}",  # the extension of that name: a string that sorts
        "datacontenttype": "application/json",
        "data": data,
    }


def _event(fields: Fields) -> Event:
    fields.choice("specversion", "1.0")
    fields.choice("datacontenttype", "application/json")
    phase = fields.choice("type", *(TYPE + phase for phase in PHASES))[len(TYPE) :]
    source = _name(fields, "source")
    device = unquote(source[len(SOURCE) :], errors="replace")
    if not device or SOURCE + quote(device, safe="") != source:
        raise fields.error("source", f"{SOURCE} and the percent-encoded name of a device")
    sequence = fields.text("sequence")
    if not re.fullmatch("[0-9]{10}", sequence):
        raise fields.error("sequence", "ten digits")
    time = _time(fields, "time")
    given = fields.object("data", lambda data: _data(data, phase, device, int(sequence), time))
    if _name(fields, "id") != given.message:
        raise fields.error("id", f"{given.message!r}, of data.event and sequence")
    if _name(fields, "subject") != given.camera:
        raise fields.error("subject", f"{given.camera!r}, the camera of data")
    return given


def _data(data: Fields, phase: str, device: str, sequence: int, time: datetime) -> Event:
    objects = data.objects("objects", _object)
    if len(objects) > MOST_OBJECTS:
        raise UserError(f"{data.path}: data.objects: {len(objects)} of them; at most {MOST_OBJECTS} are allowed")
    return Event(
        id=_name(data, "event"),
        phase=phase,
        device=device,
        camera=_name(data, "camera"),
        rule=_name(data, "rule"),
        kind=_name(data, "kind"),
        time=time,
        sequence=sequence,
        zone=None if data.get("zone") is None else _name(data, "zone"),
        context=data.object("context", _context),
        objects=objects,
        score=None if data.get("score") is None else data.number("score"),
        threshold=None if data.get("threshold") is None else data.number("threshold"),
        model=data.optional("model", lambda model: Model(_name(model, "name"), _sha256(model))),
        clip=data.optional("clip", _clip),
        defect=data.optional("defect", _defect),
    )


def _object(fields: Fields) -> SeenObject:
    box = fields.get("box")
    numbers = isinstance(box, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in box)
    if not numbers or len(box) != 4 or not all(0 <= value <= 1 for value in box):
        raise fields.error("box", "left, top, width and height, each from 0 to 1")
    found = cast("tuple[float, float, float, float]", tuple(float(value) for value in box))
    return SeenObject(_name(fields, "class"), found, fields.number("score", 0, high=1), fields.whole_or_null("track"))


def _clip(fields: Fields) -> Clip:
    for key in ("name", "picture"):
        if fields.get(key) is not None and re.search(r"[/\\]|^\.", _name(fields, key)):
            raise fields.error(key, "the name of a file, without a folder")
    picture = None if fields.get("picture") is None else _name(fields, "picture")
    size, seconds = fields.whole("bytes", 1), fields.number("seconds", 0)
    return Clip(_name(fields, "name"), _sha256(fields), size, seconds, picture)


def _defect(fields: Fields) -> Defect:
    return Defect(
        type=_name(fields, "type"),
        votes=fields.object("votes", _votes),
        distance=fields.number("distance", 0),
        nearest=fields.objects("nearest", _example),
    )


def _votes(fields: Fields) -> Mapping[str, float]:
    return {_key(fields, key): fields.number(key, 0, high=1) for key in fields.mapping()}


def _example(fields: Fields) -> Example:
    return Example(_name(fields, "type"), _name(fields, "picture"), fields.number("distance", 0))


def _context(fields: Fields) -> Mapping[str, str | float | bool]:
    values = fields.mapping()
    for key, value in values.items():
        _key(fields, key)
        if isinstance(value, str):
            _name(fields, key)
        elif not isinstance(value, bool):
            fields.number(key)
    return values


def _key(fields: Fields, key: str) -> str:
    if not _fits(key):
        raise UserError(f"{fields.path}: a key of {fields.prefix[:-1]}: must have at most {LONGEST} characters")
    return key


def _name(fields: Fields, key: str) -> str:
    text = fields.text(key)
    if not _fits(text):
        raise fields.error(key, f"printable text of at most {LONGEST} characters")
    return text


def _fits(text: str) -> bool:
    return 0 < len(text) <= LONGEST and text.isprintable()  # half of a surrogate pair isn't printable either


def _sha256(fields: Fields) -> str:
    if not SHA256.fullmatch(fields.text("sha256")):
        raise fields.error("sha256", "64 hexadecimal digits")
    return fields.text("sha256")


def _time(fields: Fields, key: str) -> datetime:
    text = fields.text(key)
    try:
        if not TIME.fullmatch(text):
            raise ValueError
        whole, _, part = text[:-1].partition(".")
        found = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S") + timedelta(microseconds=int(part.ljust(6, "0")))
    except (ValueError, OverflowError):
        raise fields.error(key, "a time in UTC such as 2026-03-29T01:30:00.000Z") from None
    return found.replace(tzinfo=UTC)
