"""A watcher over a short film in which a square comes and goes, for tests of `watch`."""

from datetime import UTC, datetime

import cv2
import numpy as np
import sites

from edge.event import from_json
from edge.watch.watcher import Watcher

SIZE = (160, 120)


def video(path, seconds=6, fps=25, enters=1.5, leaves=3.5, seed=0):
    """A square that stands in the left half from `enters` to `leaves`, trembling so that the background learns it not;
    before that, and after it, noise."""
    rng = np.random.default_rng(seed)
    file = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, SIZE)
    for i in range(int(seconds * fps)):
        image = np.clip(rng.normal(100, 2, (*SIZE[::-1], 3)), 0, 255).astype(np.uint8)
        if enters <= i / fps < leaves:
            x = 20 + int(12 * np.sin(i / 6))
            image[40:90, x : x + 20] = 230
        file.write(image)
    file.release()
    return path


def filmed(folder):
    """The folder with the film in.avi and a site whose camera plays it."""
    video(folder / "in.avi")
    sites.write(folder, sites.small())
    return folder


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self):
        self.events = []

    def send(self, event):
        self.events.append(event)
        assert from_json(event.to_json()) == event


def frames_of(path):
    capture = cv2.VideoCapture(str(path))
    while True:
        fine, frame = capture.read()
        if not fine:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def watched(site, inputs, at=None, **more):
    """The events of a watcher over in.avi; `at(seconds, watcher)` is called before each frame."""
    sink, when = Kept(), datetime(2026, 6, 3, 12, tzinfo=UTC)
    watcher = Watcher(site, site.cameras[0], sink, inputs=inputs, live=False, **more)
    for i, frame in enumerate(frames_of("in.avi")):
        if at:
            at(i / 25, sink)
        watcher.look(frame, i / 25, when)
    watcher.close()
    return sink.events, watcher
