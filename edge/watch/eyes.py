"""The models that look at one camera, and when each of them does."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge.app.trigger import Motion, Rate
from edge.arrays import Image
from edge.errors import ModelError, UserError
from edge.inference.detector import Detector, load, open_types
from edge.inference.modelfile import open_model
from edge.inference.modelinfo import NAME
from edge.inference.scoring import smoothed
from edge.preprocess import Ring, to_grey
from edge.watch.load import Step
from edge.watch.models import TaskInfo, TaskModel, open_task
from edge.watch.objects import MOTION, Blobs, Finder, Yolox
from edge.watch.pose import Pose
from edge.watch.poses import PERSON, MoveNet
from edge.watch.scene import Anomaly
from edge.watch.site import Camera, ModelFolder, Site
from edge.watch.tracker import Detection, Track

MOST_POSES = 2  # persons of a frame, the largest ones: a pose takes as long as a detection
STALE = 2.0  # seconds after which a pose or a score says nothing any more
AT_LEAST = 2.0  # seconds: so often what rests is looked at, too


class Eyes:
    """`objects(frame, seconds)`, `anomaly` and `poses` of one camera; `counts` are the looks of each model."""

    def __init__(self, site: Site, camera: Camera):
        self.camera = camera
        self.counts = {"objects": 0, "repeated": 0, "anomaly": 0, "pose": 0}
        self._finder = _finder(site, camera)
        self._detector = _anomaly(site, camera)
        self._pose = _pose(site, camera)
        self._motion = Motion(camera.motion) if camera.motion else None
        self._moved = self._unjudged = True  # in this frame; since the anomaly model looked
        self._rates: dict[tuple[str, float], Rate] = {}
        spec = self._detector.info.input if self._detector else None
        self._ring = Ring(spec.frames, spec.step) if spec and spec.color == "grey" else None
        self._last: list[Detection] = []
        self._looked = -np.inf
        self._anomaly: tuple[float, Anomaly] | None = None
        self._poses: dict[int, tuple[float, Pose]] = {}

    def due(self, what: str, share: float, seconds: float) -> bool:
        """Whether it is time for a look, at a share of the camera's rate."""
        return self._rates.setdefault((what, share), Rate(self.camera.rate * share))(seconds)

    def keep(self, frame: Image) -> None:
        """Takes a frame at which nothing looks now: it may be part of a later clip."""
        if self._ring and self._detector:
            self._ring.push(self._detector.resize(to_grey(frame)))

    def watch(self, frame: Image, seconds: float) -> None:
        """Takes the frame at which the models look next: whether something moved, or it is time to look anyway."""
        stale = seconds - self._looked >= AT_LEAST
        self._moved = self._motion is None or self._motion(frame, always=stale)
        if self._moved:
            self._looked, self._unjudged = seconds, True

    def objects(self, frame: Image, step: Step) -> list[Detection]:
        """The boxes of a frame; while nothing moves, those of the last look. Blobs have to see every frame."""
        if self._finder is None:
            return []
        if not self._moved and self.camera.objects != MOTION:
            self.counts["repeated"] += 1
            return self._last
        self.counts["objects"] += 1
        self._last = self._finder(frame, step.size)
        return self._last

    def anomaly(self, frame: Image, seconds: float, step: Step) -> tuple[Anomaly | None, bool]:
        """The latest judgement, which holds while nothing moves, and whether it is of this frame."""
        if self._detector is None:
            return None, False
        if self.due("anomaly", step.models, seconds) and self._unjudged:
            self._unjudged = False
            detector, info = self._detector, self._detector.info
            sample = self._ring.sample() if self._ring else detector.resize(frame)
            found = detector.judge(sample, (frame.shape[0], frame.shape[1]))
            self.counts["anomaly"] += 1
            map, by_map = smoothed(found.raw_map, info.score.smooth), info.score.rule == "max"
            self._anomaly = seconds, Anomaly(found.score, info.threshold, map, by_map, info.name, info.sha256, found)
            return self._anomaly[1], True
        holds = self._anomaly is not None and (not self._unjudged or seconds - self._anomaly[0] <= STALE)
        return (self._anomaly[1] if self._anomaly and holds else None), False

    def poses(self, frame: Image, tracks: Sequence[Track], seconds: float, step: Step) -> dict[int, Pose]:
        """The latest poses by the origin of the track: those of the largest persons are of this frame."""
        if self._pose is None:
            return {}
        if self.due("pose", step.models, seconds):
            persons = [track for track in tracks if track.label == PERSON and track.missed == 0]
            for track in sorted(persons, key=lambda track: -track.height)[:MOST_POSES]:
                self._poses[track.origin] = seconds, self._pose(frame, track)
                self.counts["pose"] += 1
        self._poses = {origin: kept for origin, kept in self._poses.items() if seconds - kept[0] <= STALE}
        return {origin: pose for origin, (at, pose) in self._poses.items() if at == seconds}


def contrast(frame: Image) -> float:
    """The standard deviation of a small grey picture of the frame."""
    return float(cv2.resize(to_grey(frame), (64, 48), interpolation=cv2.INTER_AREA).std())


def check_models(site: Site) -> None:
    """UserError unless each model folder is one, of the right task, and knows the objects of the rules; the face finder
    is a model, too."""
    if site.privacy is not None:
        try:
            site.privacy.guard()
        except UserError as error:
            raise ModelError(f"{site.path}: privacy.faces: {error}") from None
    for i, camera in enumerate(site.cameras):
        where = f"{site.path}: cameras.{i}"
        for task, name in (("detection", camera.objects), ("pose", camera.pose)):
            if name not in (None, MOTION):
                _task(site, str(name), task)
                if site.models[str(name)].types is not None:
                    raise ModelError(
                        f"{where}: the model {name} has types, which only an anomaly model tells; leave them out"
                    )
        if camera.anomaly is not None:
            _check_anomaly(site.models[camera.anomaly], where)
        known = classes_of(site, camera)
        for rule in site.rules_of(camera):
            for label in rule.common.objects:
                if "objects" in rule.needs and label not in known:
                    some = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
                    raise ModelError(f"{where}: the rule {rule.name!r} is about {label!r}; objects finds only: {some}")


def _check_anomaly(model: ModelFolder, where: str) -> None:
    info = open_model(model.folder)
    if info.state:
        raise ModelError(
            f"{where}: the model {model.name} has a state, which has to see every frame; a watch looks where "
            "something moves and there is time: take one of the clip as a whole"
        )
    if model.types is not None:
        open_types(model.types, info)


def classes_of(site: Site, camera: Camera) -> tuple[str, ...]:
    if camera.objects is None:
        return ()
    return (MOTION,) if camera.objects == MOTION else _task(site, camera.objects, "detection").classes


def _task(site: Site, name: str, task: str) -> TaskInfo:
    return open_task(site.models[name].folder, task)


def _finder(site: Site, camera: Camera) -> Finder | None:
    if camera.objects is None:
        return None
    if camera.objects == MOTION:
        return Blobs()
    return Yolox(_open(site, camera.objects, "detection"))


def _pose(site: Site, camera: Camera) -> MoveNet | None:
    return None if camera.pose is None else MoveNet(_open(site, camera.pose, "pose"))


def _open(site: Site, name: str, task: str) -> TaskModel:
    model = site.models[name]
    return TaskModel(_task(site, name, task), model.threads, model.delegate)


def _anomaly(site: Site, camera: Camera) -> Detector | None:
    if camera.anomaly is None:
        return None
    model = site.models[camera.anomaly]
    detector = load(model.folder, model.threads, model.delegate, model.types)
    if detector.info.score.rule != "max":
        _needs_threshold(site, camera, detector)
    return detector


def _needs_threshold(site: Site, camera: Camera, detector: Detector) -> None:
    """ModelError where a part of the map would be compared with the threshold of a score that isn't the map's."""
    for rule in site.rules_of(camera):
        if rule.kind == "anomaly" and rule.common.zones and rule.settings["threshold"] is None:
            where = detector.info.folder / NAME
            raise ModelError(
                f"{site.path}: the rule {rule.name!r} needs its own threshold: the score of {where} is no "
                "value of its map, so that a zone can't be compared with the model's threshold"
            )
