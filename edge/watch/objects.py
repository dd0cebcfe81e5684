"""Where the objects of a frame come from: a detector of the YOLOX family, or blobs that move."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.arrays import Image
from edge.errors import ModelError
from edge.watch.models import TaskModel
from edge.watch.tracker import Detection, overlaps

STRIDES = (8, 16, 32)  # of YOLOX's three grids
DOUBTFUL = 0.1  # the least score of boxes that only go on with a track
MOST = 100  # boxes of a frame
MOTION = "motion"  # the class of a blob
WIDTH = 320  # pixels to which a frame is scaled for blobs
SMALLEST = 0.001  # of the frame's area: smaller blobs are noise
HISTORY, THRESHOLD = 300, 25  # of MOG2: frames, and the squared Mahalanobis distance
LIGHT = 0.5  # so much of a frame changes only when the light does


class Finder(Protocol):
    """Gives the boxes of a frame, at a share of the size at which it usually looks."""

    def __call__(self, frame: Image, size: float = 1.0) -> list[Detection]: ...


class Yolox:
    """A detector whose output is [1, N, 5 + classes] on the grids of YOLOX (Ge et al., 2021): offsets to the cell,
    logarithms of the size in strides, objectness and class scores, both already between 0 and 1. An int8 file has two
    outputs, [1, N, 4] and [1, N, 1 + classes], each with a grid of its own."""

    def __init__(self, model: TaskModel):
        self.model, self.classes = model, model.info.classes
        spec = model.info.input
        cells, strides = [], []
        for stride in STRIDES:
            rows, columns = spec.height // stride, spec.width // stride
            y, x = np.mgrid[:rows, :columns]
            cells.append(np.stack([x.ravel(), y.ravel()], 1))
            strides.append(np.full(rows * columns, stride))
        self._cells, self._strides = np.concatenate(cells), np.concatenate(strides)[:, None]
        shapes = [tuple(tensor.shape) for tensor in model.runtime.outputs]
        count, scores = len(self._cells), 1 + len(self.classes)
        boxes = [(1, count, 4), (1, count, scores)]
        if shapes != [(1, count, 4 + scores)] and sorted(map(str, shapes)) != sorted(map(str, boxes)):
            given = " and ".join(str(list(shape)) for shape in shapes)
            raise ModelError(
                f"{model.info.path}: gives {given}, but YOLOX of this input and {len(self.classes)} classes gives "
                f"{[1, count, 4 + scores]}, or {list(boxes[0])} and {list(boxes[1])}"
            )
        self._scores_first = len(shapes) == 2 and shapes[0][2] != 4  # of three classes both have 4: in their order

    def __call__(self, frame: Image, size: float = 1.0) -> list[Detection]:
        outputs, (width, height) = self.model.run(frame)
        parts = outputs[::-1] if self._scores_first else outputs
        return self.decode(np.concatenate([part[0] for part in parts], 1, dtype=np.float32), width, height)

    def decode(self, output: NDArray[np.float32], width: float, height: float) -> list[Detection]:
        """The boxes of an output [N, 5 + classes]; the frame takes up this share of the input."""
        least = min(DOUBTFUL, self.model.info.score)
        likely = np.flatnonzero(output[:, 4] >= least)
        rows = output[likely]
        scores = rows[:, 4:5] * rows[:, 5:]
        labels = scores.argmax(1) if len(rows) else np.zeros(0, int)
        best = scores[np.arange(len(rows)), labels]
        kept = np.flatnonzero(best >= least)
        kept = kept[np.argsort(-best[kept], kind="stable")][: 10 * MOST]
        rows, labels, best = rows[kept], labels[kept], best[kept]
        at = likely[kept]
        middle = (rows[:, :2] + self._cells[at]) * self._strides[at]
        half = np.exp(np.minimum(rows[:, 2:4], 20)) * self._strides[at] / 2
        spec = self.model.info.input
        size = np.array([spec.width * width, spec.height * height])
        boxes = np.clip(np.hstack([(middle - half) / size, (middle + half) / size]), 0, 1).astype(np.float64)
        fine = np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        chosen = [i for i in suppress(boxes, labels, self.model.info.overlap) if fine[i]][:MOST]
        return [self._detection(int(labels[i]), float(best[i]), boxes[i]) for i in chosen]

    def _detection(self, label: int, score: float, box: NDArray[np.float64]) -> Detection:
        left, top, right, bottom = (float(side) for side in box)
        return Detection(self.classes[label], score, (left, top, right, bottom), score >= self.model.info.score)


def suppress(boxes: NDArray[np.float64], labels: NDArray[np.int64], overlap: float) -> list[int]:
    """The boxes, sorted by falling score, that no better one of their class overlaps (non-maximum suppression)."""
    same = (overlaps(boxes, boxes) >= overlap) & (labels[:, None] == labels[None])
    alive = np.ones(len(boxes), bool)
    kept = []
    for i in range(len(boxes)):
        if alive[i]:
            kept.append(i)
            alive &= ~same[i]
    return kept


class Blobs:
    """What moves, where there is no detector: the foreground of MOG2 (Zivkovic, 2004) in connected pieces, all of the
    class "motion". Shadows don't count, nor a change of the whole light."""

    def __init__(self) -> None:
        self._model = cv2.createBackgroundSubtractorMOG2(HISTORY, THRESHOLD, detectShadows=True)
        self._frames = 0
        self._width = 0

    def __call__(self, frame: Image, size: float = 1.0) -> list[Detection]:
        width = max(32, round(min(frame.shape[1], WIDTH) * size))
        height = max(32, round(frame.shape[0] * width / frame.shape[1]))
        if width != self._width:  # the background is of one size
            self._width, self._frames = width, 0
            self._model = cv2.createBackgroundSubtractorMOG2(HISTORY, THRESHOLD, detectShadows=True)
        small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        mask = (self._model.apply(small) == 255).astype(np.uint8)
        self._frames += 1
        if self._frames <= 5 or mask.mean() > LIGHT:
            return []
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        mask = cv2.dilate(mask, np.ones((7, 3), np.uint8))  # people are taller than wide: legs join their body
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        found = []
        for x, y, w, h, area in sorted(stats[1:].tolist(), key=lambda row: -row[4])[:MOST]:
            if area >= SMALLEST * width * height:
                box = x / width, y / height, (x + w) / width, (y + h) / height
                found.append(Detection(MOTION, 1.0, box))
        return found
