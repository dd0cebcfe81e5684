"""The event: CloudEvents JSON there and back, and one line for each thing that can be wrong with it."""

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from conftest import one_line

from edge.errors import UserError
from edge.event import UTC, Clip, Defect, Event, Example, Model, SeenObject, from_json

TIME = datetime(2026, 3, 29, 1, 30, 0, 120_000, tzinfo=UTC)


def event(**changes) -> Event:
    full = Event(
        id="7f3a",
        phase="update",
        device="gate 1/übung",
        camera="yard",
        rule="loiter at the gate",
        kind="loitering",
        time=TIME,
        sequence=3,
        zone="gate",
        context={"slot": "night", "weekday": 6, "open": False},
        objects=(SeenObject("person", (0.1, 0.2, 0.25, 0.5), 0.875, 12), SeenObject("dog", (0, 0, 1, 1), 0.5)),
        score=1.5,
        threshold=0.75,
        model=Model("pruned-int8", "ab" * 32),
        clip=Clip("yard-7f3a.avi", "cd" * 32, 1000, 12.5, "yard-7f3a.jpg"),
    )
    return replace(full, **changes)


def cloudevent(**changes) -> dict:
    return {**json.loads(event().to_json()), **changes}


def test_there_and_back():
    bare = Event("1", "new", "d", "c", "r", "presence", TIME)
    typed = event(defect=Defect("dent", {"dent": 0.75, "hole": 0.25}, 0.125, (Example("dent", "a/1.png", 0.125),)))
    for sent in (event(), bare, event(phase="new", sequence=0), event(phase="end", clip=None), typed):
        assert from_json(sent.to_json()) == sent


def test_is_a_cloudevent_by_its_specification():
    """The required attributes, and the types and formats of the optional ones, read off the specification."""
    found = cloudevent()
    assert found["specversion"] == "1.0" and found["datacontenttype"] == "application/json"
    assert found["id"] == "7f3a/3" and found["type"] == "edge-vision.event.update" and found["subject"] == "yard"
    assert found["source"] == "/devices/gate%201%2F%C3%BCbung"
    assert found["time"] == "2026-03-29T01:30:00.120000Z"
    attributes = set(found) - {"data"}
    assert all(name.isascii() and name.islower() and name.isalnum() for name in attributes)
    assert all(isinstance(found[name], str) and found[name] for name in attributes)
    assert found["data"]["objects"][0] == {"class": "person", "box": [0.1, 0.2, 0.25, 0.5], "score": 0.875, "track": 12}


def test_any_time_zone_is_written_in_utc():
    berlin = TIME.astimezone(timezone(timedelta(hours=2)))
    assert event(time=berlin).to_json() == event().to_json()


def test_attributes_of_others_are_passed_over():
    assert from_json(json.dumps(cloudevent(traceparent="00-ab-cd-01")).encode()) == event()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"specversion": "0.3"}, "specversion = '0.3': must be '1.0'"),
        ({"type": "edge-vision.event.begin"}, "type = 'edge-vision.event.begin': must be"),
        ({"source": "/devices/"}, "source = '/devices/': must be /devices/ and"),
        ({"source": "/devices/%ff"}, "source = "),
        ({"source": "/devices/a b"}, "source = "),
        ({"time": "2026-03-29T01:30:00"}, "time = '2026-03-29T01:30:00': must be a time in UTC"),
        ({"time": "2026-02-30T01:30:00Z"}, "time = "),
        ({"time": "2026-03-29T01:30:00+02:00"}, "time = "),
        ({"sequence": 3}, "sequence = 3: must be a non-empty string"),
        ({"sequence": "3"}, "sequence = '3': must be ten digits"),
        ({"id": "7f3a/4"}, "id = '7f3a/4': must be '7f3a/3'"),
        ({"subject": "door"}, "subject = 'door': must be 'yard'"),
        ({"data": []}, "data = []: must be an object"),
    ],
)
def test_wrong_attributes(changes, said):
    with pytest.raises(UserError) as caught:
        from_json(json.dumps(cloudevent(**changes)).encode(), "inbox/1")
    assert one_line(caught).startswith(f"inbox/1: {said}")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("zone", "", "data.zone = '': must be a non-empty string"),
        ("camera", "a\nb", "data.camera = 'a\\nb': must be printable text"),
        ("rule", "\ud800", "data.rule = '\\ud800': must be printable text"),
        ("kind", "x" * 201, "data.kind = "),
        ("score", float("nan"), "data.score = nan: must be a finite number"),
        ("threshold", True, "data.threshold = True: must be a finite number"),
        ("context", {"a": []}, "data.context.a = []: must be a finite number"),
        ("context", {"": 1}, "a key of data.context: must have"),
        ("objects", [{"class": "dog", "box": [0, 0, 1], "score": 1, "track": None}], "data.objects.0.box = [0, 0, 1]"),
        ("objects", [{"class": "dog", "box": [0, 0, 1, 1.5], "score": 1, "track": None}], "data.objects.0.box = "),
        ("objects", [{"class": "dog", "box": [0, 0, 1, 1], "score": 2, "track": None}], "data.objects.0.score = 2"),
        ("objects", [{"class": "dog", "box": [0, 0, 1, 1], "score": 1, "track": -1}], "data.objects.0.track = -1"),
        ("objects", [{}] * 1001, "data.objects.0.box: missing field"),
        ("model", {"name": "m", "sha256": "AB" * 32}, "data.model.sha256 = "),
        ("clip", {"name": "../x", "sha256": "ab" * 32, "bytes": 1, "seconds": 1, "picture": None}, "data.clip.name = "),
        ("clip", {"name": "x", "sha256": "ab" * 32, "bytes": 0, "seconds": 1, "picture": None}, "data.clip.bytes = 0"),
        ("defect", {"type": "dent", "votes": {"dent": 2}, "distance": 0, "nearest": []}, "data.defect.votes.dent ="),
        ("defect", {"type": "dent", "votes": {}, "distance": -1, "nearest": []}, "data.defect.distance = -1"),
        ("defect", {"type": "", "votes": {}, "distance": 0, "nearest": []}, "data.defect.type = ''"),
        ("owner", 1, "data.owner: unknown field"),
    ],
)
def test_wrong_data(key, value, said):
    data = cloudevent()
    data["data"][key] = value
    with pytest.raises(UserError) as caught:
        from_json(json.dumps(data).encode())
    assert one_line(caught).startswith(f"event: {said}")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"null", b"[" * 100_000, b" " * (5 << 20), b'{"a":1}'])
def test_what_is_no_event(data):
    with pytest.raises(UserError) as caught:
        from_json(data)
    assert one_line(caught).startswith("event")


@pytest.mark.parametrize("key", sorted(set(json.loads(event().to_json())) - {"data"}))
def test_each_attribute_is_needed(key):
    data = cloudevent()
    del data[key]
    with pytest.raises(UserError, match=f"{key}: missing field"):
        from_json(json.dumps(data).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"time": TIME.replace(tzinfo=None)},
        {"score": float("inf")},
        {"score": np.float32(1)},
        {"phase": "begin"},
        {"camera": ""},
        {"sequence": -1},
        {"objects": (SeenObject("dog", (0, 0, 2, 1), 0.5),)},
    ],
)
def test_what_no_reader_takes_is_not_written(changes):
    with pytest.raises(UserError, match="event 7f3a: ") as caught:
        event(**changes).to_json()
    one_line(caught)
