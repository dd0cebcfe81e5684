"""Faces and fixed zones made irreversible, in place, before anything else sees a frame."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from edge.arrays import Image
from edge.errors import UserError
from edge.inference.names import taken

MODES = ("blur", "pixelate", "fill")
CELLS = 3  # averages across the shorter side of a hidden box; a Haar cascade still finds faces of 6, none of 4


class FaceFinder:
    """YuNet through OpenCV: `finder(image)` gives the boxes float [N, 4] (x, y, width, height) in pixels.

    image: uint8 RGB. A frame longer than `longest` is searched at that size, because the time grows with the area; a
    face should be at least 10 pixels wide there. The low threshold blurs a parrot rather than let a face slip through.
    """

    def __init__(self, path: str | Path, threshold: float = 0.4, longest: int = 640):
        self.longest = longest
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; --face-model takes the ONNX file of YuNet")
        # OpenCV 5 warns of a target that nobody chose
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            with taken(path) as name:
                self._net = cv2.FaceDetectorYN.create(name, "", (longest, longest), threshold, 0.3, 5000)
            self._net.detect(np.zeros((longest, longest, 3), np.uint8))
        except cv2.error as error:
            raise UserError(f"{path}: not a YuNet face detector: {' '.join(str(error).split())[:200]}") from None
        finally:
            cv2.utils.logging.setLogLevel(level)

    def __call__(self, image: Image) -> np.ndarray:
        scale = min(1.0, self.longest / max(image.shape[:2]))
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._net.setInputSize((image.shape[1], image.shape[0]))
        faces = self._net.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        return np.empty((0, 4)) if faces is None else faces[:, :4] / scale


class Guard:
    """The one function that every frame passes first: `guard(frame)` hides faces and zones in the frame's own memory.

    It returns the frame, or None when the finder failed and `on_failure` is "drop"; the pixels are then black, so that
    no reference to the frame leaks it. `zones` are (x, y, width, height) in fractions of the frame. A box grows by
    `margin` of its size on each side and stays for `hold` frames, because a finder misses a turning head now and then.
    """

    def __init__(
        self,
        mode: str = "blur",
        find: Callable[[Image], np.ndarray] | None = None,
        zones: Iterable[tuple[float, float, float, float]] = (),
        on_failure: str = "drop",
        margin: float = 0.25,
        hold: int = 0,
    ):
        if mode not in MODES:
            raise UserError(f"privacy mode {mode!r}: must be one of {', '.join(MODES)}")
        if on_failure not in ("drop", "blur"):
            raise UserError(f"on_failure {on_failure!r}: must be drop or blur")
        self.mode, self.find, self.zones, self.on_failure, self.margin = mode, find, tuple(zones), on_failure, margin
        self._recent: deque[np.ndarray] = deque(maxlen=hold + 1)
        self.counts = {"faces": 0, "failures": 0}

    def __call__(self, frame: Image) -> Image | None:
        height, width = frame.shape[:2]
        try:
            boxes = self._faces(frame)
        except Exception:  # whatever a detector raises: the frame must not leave
            self.counts["failures"] += 1
            if self.on_failure == "drop":
                frame[:] = 0
                return None
            self._hide(frame, 0, 0, width, height)
            return frame
        self.counts["faces"] += len(boxes)
        self._recent.append(boxes)
        for x, y, w, h in [b for boxes in self._recent for b in boxes]:
            grow_x, grow_y = self.margin * w, self.margin * h
            self._hide(frame, x - grow_x, y - grow_y, x + w + grow_x, y + h + grow_y)
        for x, y, w, h in self.zones:
            self._hide(frame, x * width, y * height, (x + w) * width, (y + h) * height)
        return frame

    def _faces(self, frame: Image) -> np.ndarray:
        if self.find is None:
            return np.empty((0, 4))
        boxes = np.asarray(self.find(frame), float).reshape(-1, 4)
        if not np.isfinite(boxes).all():
            raise ValueError("the face detector returned boxes that are no numbers")
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
    group.add_argument("--privacy", choices=MODES, help="hide faces and zones so")
    group.add_argument("--face-model", metavar="FILE", help="the ONNX file of YuNet; without it only zones are hidden")
    group.add_argument("--face-search", type=int, default=640, metavar="PX", help="search frames at this size at most")
    group.add_argument(
        "--zone", type=zone, action="append", default=[], metavar="X,Y,W,H", help="fractions; repeatable"
    )
    group.add_argument("--on-failure", choices=("drop", "blur"), default="drop", help="the frame when the finder fails")


def from_options(arguments: argparse.Namespace, hold: int = 0) -> Guard | None:
    """The guard that the options ask for, None without --privacy; UserError when they contradict each other."""
    if not arguments.privacy:
        if arguments.face_model or arguments.zone:
            raise UserError("--face-model and --zone need --privacy blur, pixelate or fill")
        return None
    if not arguments.face_model and not arguments.zone:
        raise UserError("--privacy has nothing to hide: give --face-model FILE or --zone X,Y,W,H")
    find = FaceFinder(arguments.face_model, longest=arguments.face_search) if arguments.face_model else None
    return Guard(arguments.privacy, find, arguments.zone, arguments.on_failure, hold=hold)
