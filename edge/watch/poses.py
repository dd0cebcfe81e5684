"""The keypoints of a person: MoveNet (Lightning, single pose) on the part of the frame in which a person is tracked."""

from __future__ import annotations

import numpy as np

from edge.arrays import Image
from edge.errors import ModelError
from edge.watch.models import TaskModel
from edge.watch.pose import Pose
from edge.watch.tracker import Track

AROUND = 0.25  # of the box's longer side on each side: MoveNet wants the whole person with some room
PERSON = "person"


class MoveNet:
    """`pose(frame, track)` for a model whose output is [1, 1, 17, 3]: y, x in fractions of the input, confidence."""

    def __init__(self, model: TaskModel):
        self.model = model
        shape = tuple(model.runtime.outputs[0].shape)
        if len(model.runtime.outputs) != 1 or shape != (1, 1, 17, 3):
            raise ModelError(f"{model.info.path}: gives {list(shape)}, but MoveNet gives [1, 1, 17, 3]")

    def __call__(self, frame: Image, track: Track) -> Pose:
        height, width = frame.shape[:2]
        left, top, side = square(track.box, width, height)
        part = np.zeros((side, side, 3), np.uint8)
        x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + side), min(height, top + side)
        part[y0 - top : y1 - top, x0 - left : x1 - left] = frame[y0:y1, x0:x1]
        (output,), _ = self.model.run(part)
        found = np.asarray(output, np.float64).reshape(17, 3)
        points = np.column_stack([(found[:, 1] * side + left) / width, (found[:, 0] * side + top) / height])
        return Pose(np.column_stack([points, found[:, 2]]), width / height)


def square(box: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int]:
    """Left, top and side, in pixels, of the square around a box, with room on each side; it may leave the frame."""
    pixels = np.array(box) * (width, height, width, height)
    side = max(8, int(np.ceil(max(pixels[2:] - pixels[:2]) * (1 + 2 * AROUND))))
    side = min(side, 2 * max(width, height))
    middle = (pixels[:2] + pixels[2:]) / 2
    return round(float(middle[0]) - side / 2), round(float(middle[1]) - side / 2), side
