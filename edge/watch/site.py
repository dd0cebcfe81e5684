"""One file, site.json: the cameras, models, zones, schedules and rules of a place, each field checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Any

from edge.address import masked
from edge.app.faces import FaceFinder
from edge.app.privacy import AHEAD, HOLD, MODES, Guard
from edge.app.reach import check_address, is_camera, local_file
from edge.errors import ModelError, UserError
from edge.inference.fields import Fields
from edge.inference.jsonfile import read_json
from edge.link.settings import Settings as LinkSettings
from edge.link.settings import parse as parse_link
from edge.watch import reading, rules, schedule, zones
from edge.watch.context import Contexts, parse_contexts
from edge.watch.load import Load, parse_load
from edge.watch.objects import MOTION
from edge.watch.recorder import Settings as ClipSettings
from edge.watch.recorder import parse as parse_clips
from edge.watch.rule import Names, Rule
from edge.watch.rules_state import Sensor
from edge.watch.schedule import Hours
from edge.watch.zones import Line, Zone

RATE, STILL = 5.0, 4.0  # looks a second; grey values by which a cell must change


@dataclass(frozen=True)
class Camera:
    """A camera: where its frames come from, and the names of the models that look at them."""

    name: str
    source: str
    objects: str | None  # a model's name, MOTION (blobs that move) or None
    pose: str | None
    anomaly: str | None
    rate: float
    motion: float
    loop: bool = False  # play a file again and again


@dataclass(frozen=True)
class ModelFolder:
    """A model folder by the name that cameras use; `types`, of an anomaly model, is the folder of its catalogue."""

    name: str
    folder: Path
    threads: int
    delegate: str | None
    types: Path | None = None


@dataclass(frozen=True)
class Privacy:
    """What is hidden in every frame before anything else sees it."""

    mode: str
    faces: Path | None
    smallest_face: float | None
    zones: tuple[tuple[float, float, float, float], ...]
    on_failure: str

    def guard(self) -> Guard:
        """A guard for one camera."""
        find = FaceFinder(self.faces, self.smallest_face, in_turn=True) if self.faces else None
        return Guard(self.mode, find, self.zones, self.on_failure, hold=HOLD, ahead=AHEAD)


@dataclass(frozen=True)
class Site:
    """A checked site.json."""

    path: Path
    device: str
    zone: tzinfo
    cameras: tuple[Camera, ...]
    models: dict[str, ModelFolder]
    zones: dict[str, Zone]
    lines: dict[str, Line]
    schedules: dict[str, Hours]
    sensors: tuple[str, ...]
    rules: tuple[Rule, ...]
    contexts: Contexts
    load: Load
    privacy: Privacy | None
    clips: ClipSettings | None = None
    link: LinkSettings | None = None
    stats: float = 60.0
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> Names:
        """What a rule of this site may refer to."""
        cameras = tuple(camera.name for camera in self.cameras)
        return Names(self.zone, cameras, self.zones, self.lines, self.schedules, self.sensors)

    def rules_of(self, camera: Camera) -> tuple[Rule, ...]:
        """The rules of a camera, which have seen nothing yet: those for all cameras only where it can serve them."""
        return tuple(rule.fresh() for rule in self.rules if self._serves(camera, rule))

    def _serves(self, camera: Camera, rule: Rule) -> bool:
        if rule.common.cameras:
            return camera.name in rule.common.cameras
        if rule.kind == Sensor.kind:  # it looks at no picture: one camera's events are enough
            return camera is self.cameras[0]
        return rule.needs <= abilities(camera)


def abilities(camera: Camera) -> frozenset[str]:
    """What rules may need of a camera."""
    return frozenset(name for name in ("objects", "pose", "anomaly") if getattr(camera, name) is not None)


def read_site(path: str | Path) -> Site:
    """The site of a file; UserError names the field, its value and what is allowed."""
    path = Path(path)
    try:
        raw = read_json(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; give the site.json") from None
    return parse(path, raw)


def parse(path: Path, raw: Any) -> Site:
    """The site of the content of a file at `path`, to whose folder its paths are relative."""
    return Fields(path, raw).parsed(lambda top: _site(path, top))


def _site(path: Path, top: Fields) -> Site:
    device, zone = reading.name(top, "device"), schedule.parse_zone(top, "timezone")
    models = top.objects("models", lambda at: _model(at, path.parent)) if "models" in top.values else ()
    reading.unique(top, "models", (model.name for model in models))
    by_name = {model.name: model for model in models}
    cameras = top.objects("cameras", lambda at: _camera(at, path.parent, tuple(by_name)))
    if not cameras:
        raise top.error("cameras", "a list of at least one object")
    reading.unique(top, "cameras", (camera.name for camera in cameras))
    seen = tuple(camera.name for camera in cameras)
    areas = top.objects("zones", lambda at: zones.parse_zone(at, seen)) if "zones" in top.values else ()
    reading.unique(top, "zones", (area.name for area in areas))
    lines = top.objects("lines", lambda at: zones.parse_line(at, seen)) if "lines" in top.values else ()
    reading.unique(top, "lines", (line.name for line in lines))
    hours = top.maybe("schedules", {}, lambda key: top.object(key, lambda at: _schedules(at, zone)))
    sensors = top.maybe("sensors", (), lambda key: reading.names(top, key))
    names = Names(zone, seen, {area.name: area for area in areas}, {line.name: line for line in lines}, hours, sensors)
    found = rules.parse_all(top, names)
    check_needs(top, found, cameras)
    clips = top.optional("clips", parse_clips)
    if clips and "privacy" not in top.values:
        raise ModelError(f"{path}: privacy: missing field; clips are kept, so say what is hidden in them, or null")
    return Site(
        path=path,
        device=device,
        zone=zone,
        cameras=cameras,
        models=by_name,
        zones=names.zones,
        lines=names.lines,
        schedules=hours,
        sensors=sensors,
        rules=found,
        contexts=top.optional("context", lambda at: parse_contexts(at, zone, hours, path.parent)) or Contexts(zone),
        load=top.optional("load", parse_load) or Load(),
        privacy=top.optional("privacy", lambda at: _privacy(at, path.parent)),
        clips=clips,
        link=top.optional("link", lambda at: parse_link(at, device)),
        stats=top.maybe("stats", 60.0, lambda key: top.number(key, 1, high=86400)),
        raw=top.values,
    )


def _schedules(at: Fields, zone: tzinfo) -> dict[str, Hours]:
    return {name: at.object(name, lambda inner: schedule.parse(inner, zone)) for name in at.mapping()}


def _model(at: Fields, folder: Path) -> ModelFolder:
    return ModelFolder(
        name=reading.name(at, "name"),
        folder=folder / at.text("folder"),
        threads=at.maybe("threads", 1, lambda key: at.whole(key, 1, 1024)),
        delegate=at.maybe("delegate", None, at.text),
        types=at.maybe("types", None, lambda key: folder / at.text(key)),
    )


def _camera(at: Fields, folder: Path, models: tuple[str, ...]) -> Camera:
    def model(key: str) -> str:
        return reading.one_of(at, key, models, "a model")

    return Camera(
        name=reading.name(at, "name"),
        source=_source(at, folder),
        objects=at.maybe(
            "objects", None, lambda key: reading.one_of(at, key, (*models, MOTION), f"a model, or {MOTION!r}")
        ),
        pose=at.maybe("pose", None, model),
        anomaly=at.maybe("anomaly", None, model),
        rate=at.maybe("rate", RATE, lambda key: at.number(key, 0, open_low=True, high=1000)),
        motion=at.maybe("motion", STILL, lambda key: at.number(key, 0, high=255)),
        loop=at.maybe("loop", False, lambda key: reading.flag(at, key)),
    )


def _source(at: Fields, folder: Path) -> str:
    """A camera's number (also as a number), an address as it is, or the path of a file or device."""
    if at.values.get("source") is not None and not isinstance(at.values["source"], str):
        return str(at.whole("source", 0, 9999))
    text = at.text("source")
    if "://" in local_file(text):
        try:
            check_address(text, f"source = {masked(text)!r}")
        except UserError as error:
            raise ModelError(f"{at.path}: {at.prefix}{error}") from None
    return text if is_camera(text) or "://" in text else str(folder / text)


def _privacy(at: Fields, folder: Path) -> Privacy:
    return Privacy(
        mode=at.maybe("mode", MODES[0], lambda key: at.choice(key, *MODES)),
        faces=at.maybe("faces", None, lambda key: folder / at.text(key)),
        smallest_face=at.maybe("smallest_face", None, lambda key: at.number(key, 4, high=16384)),
        zones=at.maybe("zones", (), lambda key: reading.items(at, key, "a list of [x, y, width, height]", _hidden)),
        on_failure=at.maybe("on_failure", "drop", lambda key: at.choice(key, "drop", "blur")),
    )


def _hidden(at: Fields, key: str) -> tuple[float, float, float, float]:
    values = at.get(key)
    allowed = "[x, y, width, height] in fractions of the frame, inside it"
    if not isinstance(values, list) or len(values) != 4:
        raise at.error(key, allowed)
    inner = Fields(at.path, {str(i): value for i, value in enumerate(values)}, f"{at.prefix}{key}.")
    x, y, w, h = (inner.number(str(i), 0, high=1) for i in range(4))
    if not (w > 0 and h > 0 and x + w <= 1 + 1e-9 and y + h <= 1 + 1e-9):
        raise at.error(key, allowed)
    return x, y, w, h


def check_needs(top: Fields, found: tuple[Rule, ...], cameras: tuple[Camera, ...]) -> None:
    """ModelError where a rule needs what none of its cameras has."""
    has = {camera.name: abilities(camera) for camera in cameras}
    for rule in found:
        own = rule.common.cameras
        short = [n for n in own if not rule.needs <= has[n]] if own else [n for n in has if not rule.needs <= has[n]]
        if short and (own or len(short) == len(has)):
            missing = sorted(rule.needs - has[short[0]])[0]
            number = next(i for i, camera in enumerate(cameras) if camera.name == short[0])
            raise ModelError(f"{top.path}: cameras.{number}.{missing}: missing field; the rule {rule.name!r} needs it")
