"""YuNet over a picture in several passes: at its size, and changed so that it finds what it misses there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge.arrays import Floats, Image
from edge.errors import UserError
from edge.inference.names import taken

LEAST = 10  # pixels: YuNet finds faces of this width and more, none under 6
SMALLEST = 20  # pixels of the frame: the width of a face that is still looked for in large frames
MOST = 4096  # pixels: the longest side that is searched, for memory
LOOSE = 0.1  # scores under this are noise everywhere
SAME = 0.3  # boxes of two passes that overlap so far (IoU) are one face
TILES, DARK, DARK_SHARE = 8, 64, 0.05  # a picture is dark where this share of 8 x 8 tiles has nothing above this grey
GREY, MOST_GAIN = 100, 24  # to what mean, and how many times at most, dark places are lifted


@dataclass(frozen=True)
class Pass:
    """One look at the picture, whose sides are scaled to these shares of the search size.

    `sure`: from this score on a box is a face; `sure_across`: the same for one that the picture's border cuts.
    `mirror`: this share of each side is reflected around the picture, where half a face becomes a whole one.
    """

    width: float
    height: float
    sure: float
    sure_across: float
    mirror: float = 0.0
    lift: bool = False


# chosen on the photographs of tests/face_conditions.py, with the pictures without faces beside them
FULL = Pass(1, 1, 0.4, 0.4)
SMALL = Pass(0.25, 0.25, 0.2, 0.2)  # motion blur and faces that fill the picture
MIRRORED = Pass(0.5, 0.5, 0.4, 0.2, mirror=0.25)  # faces at the border
WIDE = Pass(1, 0.5, 0.3, 0.3)  # turned heads, which are narrow
LIFTED = Pass(0.5, 0.5, 0.4, 0.4, lift=True)  # dark places
PASSES = (FULL, SMALL, MIRRORED, WIDE, LIFTED)  # a face that two of them see has the box of the first
IN_TURN = (MIRRORED, WIDE)


class FaceFinder:
    """`finder(image)` gives float [N, 5]: x, y, width, height in pixels, and confidence.

    image: uint8 RGB. From a confidence of 1 on a box is a face; the others count beside a face of the frames around.
    `smallest`: the width in pixels from which on faces are looked for; the time grows with the inverse square of it.
    `in_turn` runs one of the passes IN_TURN a call, for video, where what one frame misses the next ones find.
    The low thresholds hide a parrot rather than let a face slip through.
    """

    def __init__(
        self,
        path: str | Path,
        smallest: float | None = None,
        in_turn: bool = False,
        passes: tuple[Pass, ...] = PASSES,
    ):
        self.smallest, self.passes = smallest, passes
        self._turns = [p for p in passes if in_turn and p in IN_TURN]
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; give the ONNX file of YuNet")
        # OpenCV 5 warns of a target that nobody chose
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            with taken(path) as name:
                self._net = cv2.FaceDetectorYN.create(name, "", (320, 320), LOOSE, SAME, 5000)
            self._net.detect(np.zeros((320, 320, 3), np.uint8))
        except cv2.error as error:
            raise UserError(f"{path}: not a YuNet face detector: {' '.join(str(error).split())[:200]}") from None
        finally:
            cv2.utils.logging.setLogLevel(level)

    def __call__(self, image: Image) -> Floats:
        scale = search_scale(image.shape[:2], self.smallest)
        bgr = _resized(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), scale, scale)
        dark = is_dark(bgr)
        if self._turns:
            self._turns.append(self._turns.pop(0))
        found = [
            self._look(bgr, one)
            for one in self.passes
            if (dark or not one.lift) and (one not in self._turns or one == self._turns[0])
        ]
        boxes = merged(np.concatenate(found))
        boxes[:, :4] /= scale
        return boxes

    def _look(self, bgr: Image, how: Pass) -> Floats:
        """The boxes of one pass, in pixels of `bgr`."""
        height, width = bgr.shape[:2]
        seen = _resized(bgr, how.width, how.height)
        scale = np.array([seen.shape[1] / width, seen.shape[0] / height] * 2)
        if how.lift:
            seen = lifted(seen)
        left, top = round(how.mirror * seen.shape[1]), round(how.mirror * seen.shape[0])
        if how.mirror:
            seen = cv2.copyMakeBorder(seen, top, top, left, left, cv2.BORDER_REFLECT)
        self._net.setInputSize((seen.shape[1], seen.shape[0]))
        faces = self._net.detect(seen)[1]
        if faces is None:
            return np.empty((0, 5), np.float32)
        boxes = (faces[:, :4] - (left, top, 0, 0)) / scale
        if how.mirror:
            boxes = unfolded(boxes, width, height)
        across = (boxes[:, :2] < 0).any(1) | (boxes[:, :2] + boxes[:, 2:] > (width, height)).any(1)
        confidence = faces[:, 14] / np.where(across, how.sure_across, how.sure)
        return np.column_stack([boxes, confidence]).astype(np.float32)


def search_scale(shape: tuple[int, ...], smallest: float | None = None) -> float:
    """By how much a picture is scaled down so that the smallest faces looked for are just wide enough for YuNet.

    The smallest are 20 pixels wide unless said otherwise, less in a picture whose longer side has under 1280 pixels.
    """
    if smallest is None:
        smallest = min(SMALLEST, max(shape[:2]) / 64)
    return min(1.0, LEAST / smallest, MOST / max(shape[:2]))


def is_dark(bgr: Image) -> bool:
    """Whether some part of the picture is so dark that YuNet misses faces there."""
    grey = cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), (4 * TILES, 4 * TILES), interpolation=cv2.INTER_AREA)
    brightest = grey.reshape(TILES, 4, TILES, 4).max((1, 3))
    return bool((brightest < DARK).mean() >= DARK_SHARE)


def lifted(bgr: Image) -> Image:
    """The picture with its dark places as light as the others: smoothed, for noise, and divided by its local mean."""
    smooth = cv2.GaussianBlur(bgr, (0, 0), 1)
    grey = cv2.cvtColor(smooth, cv2.COLOR_BGR2GRAY).astype(np.float32)
    mean = cv2.resize(cv2.resize(grey, (12, 12), interpolation=cv2.INTER_AREA), grey.shape[::-1])
    gain = np.clip(GREY / np.maximum(mean, 1), 1, MOST_GAIN)
    light: Image = np.minimum(smooth * gain[..., None], 255).astype(np.uint8)
    return light


def unfolded(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Boxes [N, 4] whose middle lies in a reflection, where the face itself is."""
    boxes = boxes.copy()
    for axis, side in ((0, width), (1, height)):
        start, length = boxes[:, axis], boxes[:, axis + 2]
        middle = start + length / 2
        boxes[:, axis] = np.where(
            middle < 0, -start - length, np.where(middle > side, 2 * side - start - length, start)
        )
    return boxes


def merged(boxes: Floats) -> Floats:
    """Boxes [N, 5], one for a face, which holds all the sure boxes that overlap the first one, and no doubtful ones.

    The passes differ in where they see a face that is hard to see."""
    boxes = boxes[np.argsort(boxes[:, 4] < 1, kind="stable")]
    ends = boxes[:, :2] + boxes[:, 2:4]
    faces = []
    rest = np.ones(len(boxes), bool)
    for first in range(len(boxes)):
        if not rest[first]:
            continue
        same = rest & (overlaps(boxes, boxes[first]) >= SAME)
        rest &= ~same
        same &= boxes[:, 4] >= boxes[first, 4].clip(max=1)
        low, high = boxes[same, :2].min(0), ends[same].max(0)
        faces.append([*low, *(high - low), boxes[same, 4].max()])
    return np.array(faces, np.float32).reshape(-1, 5)


def overlaps(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The intersection over union of each of [N, 4+] with one, which is not empty."""
    ends = np.minimum(boxes[:, :2] + boxes[:, 2:4], box[:2] + box[2:4])
    both = np.clip(ends - np.maximum(boxes[:, :2], box[:2]), 0, None).prod(1)
    union = boxes[:, 2:4].prod(1) + box[2:4].prod() - both
    share: np.ndarray = both / np.maximum(union, 1e-9)
    return share


def _resized(image: Image, scale_x: float, scale_y: float) -> Image:
    """The picture scaled down, at least a pixel wide and high."""
    height, width = image.shape[:2]
    size = max(1, round(scale_x * width)), max(1, round(scale_y * height))
    if size == (width, height):
        return image
    small: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small
