"""Faces and fixed zones hidden, in place, before anything else sees a frame."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

import cv2
import numpy as np

from edge.app.faces import SMALLEST, FaceFinder
from edge.app.paths import Paths
from edge.arrays import Image
from edge.errors import UserError

T = TypeVar("T")
MODES = ("fill", "blur", "pixelate")
CELLS = 3  # averages across the shorter side of a hidden box; a Haar cascade still finds faces of 6, none of 4
HOLD, AHEAD = 5, 5  # frames of a video that a face stays hidden after it was seen last, and before it was seen first


class Guard:
    """The one function that every frame passes first: `guard(frame)` hides faces and zones in the frame's own memory.

    It returns the frame, or None when the finder failed and `on_failure` is "drop"; the pixels are then black, so that
    no reference to the frame leaks it. `find` gives boxes [N, 4], or [N, 5] with the confidence of `FaceFinder`.
    `zones` are (x, y, width, height) in fractions of the frame. A box grows by `margin` of its size on each side.

    A finder misses a face now and then. In a video, `hold` hides the way that a face goes for so many frames after it
    was seen last, and `guard.video(frames)` also that which led it to where it was seen first.
    """

    def __init__(
        self,
        mode: str = "fill",
        find: Callable[[Image], np.ndarray] | None = None,
        zones: Iterable[tuple[float, float, float, float]] = (),
        on_failure: str = "drop",
        margin: float = 0.25,
        hold: int = 0,
        ahead: int = 0,
    ):
        if mode not in MODES:
            raise UserError(f"privacy mode {mode!r}: must be one of {', '.join(MODES)}")
        if on_failure not in ("drop", "blur"):
            raise UserError(f"on_failure {on_failure!r}: must be drop or blur")
        self.mode, self.find, self.zones, self.on_failure, self.margin = mode, find, tuple(zones), on_failure, margin
        self.hold, self.ahead = hold, ahead if find else 0
        self._paths = Paths(hold)
        self.counts = {"faces": 0, "failures": 0}

    def __call__(self, frame: Image) -> Image | None:
        return self._finish(frame, self._look(frame))

    def video(self, frames: Iterable[tuple[T, Image]]) -> Generator[tuple[T, Image | None], None, None]:
        """Takes (anything, frame) in their order, gives the same with the frame hidden or None, `ahead` frames later.

        Frames that wait here when it ends early are black."""
        self._paths = Paths(self.hold, self.ahead)
        waiting: deque[tuple[T, Image, int | None]] = deque()
        try:
            for note, frame in frames:
                waiting.append((note, frame, None))  # before anything may fail
                waiting[-1] = note, frame, self._look(frame)
                if len(waiting) > self.ahead:
                    yield self._first(waiting)
            while waiting:
                yield self._first(waiting)
        finally:
            for _, frame, _ in waiting:
                frame[:] = 0

    def _first(self, waiting: deque[tuple[T, Image, int | None]]) -> tuple[T, Image | None]:
        note, frame, number = waiting[0]
        hidden = self._finish(frame, number)
        waiting.popleft()
        return note, hidden

    def _look(self, frame: Image) -> int | None:
        """Finds the faces of a frame; its number, None when that failed."""
        try:
            boxes = self._faces(frame)
            self.counts["faces"] += int((boxes[:, 4] >= 1).sum())
            return self._paths.see(boxes)
        except Exception:  # whatever a detector raises: the frame must not leave
            self.counts["failures"] += 1
            return None

    def _finish(self, frame: Image, number: int | None) -> Image | None:
        """The frame with everything hidden, None when its faces are not known."""
        height, width = frame.shape[:2]
        faces = None if number is None else self._places(number)
        if faces is None and self.on_failure == "drop":
            frame[:] = 0
            return None
        for place in [(0, 0, width, height)] if faces is None else faces:
            self._hide(frame, *place)
        for x, y, w, h in self.zones:
            self._hide(frame, x * width, y * height, (x + w) * width, (y + h) * height)
        return frame

    def _places(self, number: int) -> list[tuple[float, ...]] | None:
        """(left, top, right, bottom) of what the faces of a frame take, with the margin; None when that failed."""
        try:
            start, size = np.split(self._paths.hidden(number), 2, axis=1)
            places = np.hstack([start - self.margin * size, start + (1 + self.margin) * size])
            if not np.isfinite(places).all():
                raise ValueError("a face's path leads nowhere")
            return [tuple(place) for place in places]
        except Exception:
            self.counts["failures"] += 1
            return None

    def _faces(self, frame: Image) -> np.ndarray:
        """Boxes float [N, 5]; those without a confidence are sure."""
        if self.find is None:
            return np.empty((0, 5))
        boxes = np.asarray(self.find(frame), float)
        if boxes.ndim != 2 or boxes.shape[1] != 5:
            boxes = boxes.reshape(-1, 4)
            boxes = np.column_stack([boxes, np.ones(len(boxes))])
        if not np.isfinite(boxes).all() or (boxes[:, 2:4] < 0).any():
            raise ValueError("the face detector returned boxes that are none")
        return boxes

    def _hide(self, frame: Image, left: float, top: float, right: float, bottom: float) -> None:
        """Replaces a box by a few averages of it: the cells grow with the face, so a large face keeps no more detail
        than a small one, and what they average out can't be computed back."""
        left, top = max(0, int(np.floor(left))), max(0, int(np.floor(top)))
        region = frame[top : max(top, int(np.ceil(bottom))), left : max(left, int(np.ceil(right)))]
        height, width = region.shape[:2]
        if not region.size:
            return
        if self.mode == "fill":
            region[:] = 0
            return
        cell = max(4.0, min(height, width) / CELLS)
        cells = (max(1, round(width / cell)), max(1, round(height / cell)))
        small = cv2.resize(region, cells, interpolation=cv2.INTER_AREA)
        smooth = cv2.INTER_LINEAR if self.mode == "blur" else cv2.INTER_NEAREST
        region[:] = cv2.resize(small, (width, height), interpolation=smooth)


def zone(text: str) -> tuple[float, float, float, float]:
    """The argument "x,y,width,height" in fractions of the frame; argparse shows the message of the error."""
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: must be four numbers x,y,width,height") from None
    if not (0 <= x < 1 and 0 <= y < 1 and 0 < w <= 1 - x + 1e-9 and 0 < h <= 1 - y + 1e-9):
        raise argparse.ArgumentTypeError(f"{text!r}: must be fractions of the frame and lie inside it")
    return x, y, w, h


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that opens pictures or video."""
    group = parser.add_argument_group("privacy (before inference, disk and screen)")
    group.add_argument(
        "--privacy",
        nargs="?",
        const=MODES[0],
        choices=MODES,
        help="how to hide faces and zones: black (fill, the default), or a few averages (blur, pixelate), by which one "
        "of a few known people can still be told",
    )
    group.add_argument("--face-model", metavar="FILE", help="the ONNX file of YuNet; without it only zones are hidden")
    group.add_argument(
        "--smallest-face",
        type=float,
        metavar="PX",
        help=f"hide faces of this width in pixels and more; the time grows with its inverse square (default: "
        f"{SMALLEST}, less in frames under {64 * SMALLEST})",
    )
    group.add_argument(
        "--zone",
        type=zone,
        action="append",
        default=[],
        metavar="X,Y,W,H",
        help="always hide this part, in fractions of the frame; repeatable",
    )
    group.add_argument(
        "--on-failure", choices=("drop", "blur"), default="drop", help="drop a frame when the finder fails, or hide all"
    )


def from_options(arguments: argparse.Namespace, hold: int = 0, ahead: int = 0) -> Guard | None:
    """The guard that the options ask for, None without any; UserError when they contradict each other.

    With `hold` the frames are those of a video."""
    if arguments.smallest_face is not None and not arguments.face_model:
        raise UserError("--smallest-face needs --face-model FILE: without it no face is looked for")
    if not arguments.face_model and not arguments.zone:
        if arguments.privacy:
            raise UserError("--privacy has nothing to hide: give --face-model FILE or --zone X,Y,W,H")
        return None
    find = FaceFinder(arguments.face_model, arguments.smallest_face, hold > 0) if arguments.face_model else None
    return Guard(arguments.privacy or MODES[0], find, arguments.zone, arguments.on_failure, hold=hold, ahead=ahead)
