"""The paths of faces through a video: where a face is in frames in which the finder did not see it."""

from __future__ import annotations

from collections import deque

import numpy as np

from edge.app.faces import SAME, overlaps

MEMORY = 25  # frames: beside a face seen so long ago a doubtful one counts
REACH = 1.0  # so many widths or heights a face may move between two frames
RATIO = 2.0  # and so many times may its size change
SLOPE = 4  # sightings from which its speed comes


class Path:
    """One face: its boxes float [4] by the number of the frame, in order."""

    def __init__(self, number: int, box: np.ndarray):
        self.boxes = {number: box}
        self.sure = number  # when it was last seen for sure

    def add(self, number: int, box: np.ndarray, sure: bool) -> None:
        self.boxes[number] = box
        self.boxes = dict(sorted(self.boxes.items()))
        if sure:
            self.sure = max(self.sure, number)

    def at(self, number: int) -> np.ndarray:
        """The box of a frame: seen, between two sightings, or on the straight line beyond the first or last one."""
        if number in self.boxes:
            return self.boxes[number]
        known = list(self.boxes)
        if known[0] < number < known[-1]:
            after = next(i for i, n in enumerate(known) if n > number)
            pair = known[after - 1 : after + 1]
        else:
            pair = [known[0], known[:SLOPE][-1]] if number < known[0] else [known[-SLOPE:][0], known[-1]]
        first, last = pair
        slope = (self.boxes[last] - self.boxes[first]) / max(1, last - first)
        start = last if number > last else first
        box: np.ndarray = self.boxes[start] + slope * (number - start)
        box[2:] = np.clip(box[2:], self.boxes[start][2:] / RATIO, self.boxes[start][2:] * RATIO)
        return box

    def nearest(self, number: int) -> np.ndarray:
        """The box of the sighting nearest to a frame."""
        return self.boxes[min(self.boxes, key=lambda n: abs(n - number))]

    def covers(self, number: int) -> np.ndarray:
        """What to hide in a frame: the box, and where it was not seen also the whole way from the nearest sighting."""
        box = self.at(number)
        if number in self.boxes:
            return box
        nearest = self.nearest(number)
        low = np.minimum(box[:2], nearest[:2])
        high = np.maximum(box[:2] + box[2:], nearest[:2] + nearest[2:])
        return np.concatenate([low, high - low])


class Paths:
    """`see(boxes)` takes what the finder saw in the next frame, `hidden(number)` gives the boxes to hide in a frame.

    A face stays for `hold` frames after it was seen last, and comes `ahead` frames before it was seen first, if it is
    asked for that late. Frames have numbers from 0 on. Without `hold` every frame stands for itself.
    """

    def __init__(self, hold: int = 0, ahead: int = 0):
        self.hold, self.ahead = hold, ahead
        self.seen = 0  # frames
        self._paths: list[Path] = []
        self._doubtful: deque[tuple[int, np.ndarray]] = deque(maxlen=ahead)

    def see(self, found: np.ndarray) -> int:
        """Takes boxes float [N, 5] (x, y, width, height, confidence), returns the number of the frame."""
        number, self.seen = self.seen, self.seen + 1
        kept = MEMORY + self.hold + self.ahead if self.hold else 0
        self._paths = [path for path in self._paths if number - path.sure <= kept]
        sure, doubtful = found[found[:, 4] >= 1, :4], found[found[:, 4] < 1, :4]
        open_paths = [path for path in self._paths if self.hold and number - path.sure <= MEMORY]
        rest, open_paths = self._extend(open_paths, number, sure, True)
        doubtful = self._extend(open_paths, number, doubtful, False)[0]
        for box in rest:
            path = Path(number, box)
            self._paths.append(path)
            for earlier, boxes in reversed(self._doubtful):
                self._extend([path], earlier, boxes, False)
        self._doubtful.append((number, doubtful))
        return number

    def hidden(self, number: int) -> np.ndarray:
        """Boxes float [M, 4] of a frame, of what was seen until now; the frames before it are asked for no more."""
        found = []
        for path in self._paths:
            known = list(path.boxes)
            if known[0] - self.ahead <= number <= known[-1] + self.hold:
                found.append(path.covers(number))
            for old in [n for n in known if n <= number][:-SLOPE]:
                del path.boxes[old]
        return np.array(found).reshape(-1, 4)

    @staticmethod
    def _extend(paths: list[Path], number: int, boxes: np.ndarray, sure: bool) -> tuple[np.ndarray, list[Path]]:
        """Gives each path the box nearest to where it should be; returns the boxes and the paths that are left."""
        pairs = sorted(
            (distance, p, b)
            for p, path in enumerate(paths)
            for b, distance in enumerate(_distances((path.at(number), path.nearest(number)), boxes))
            if distance <= REACH
        )
        with_box: set[int] = set()
        taken: set[int] = set()
        for _, p, b in pairs:
            if p not in with_box and b not in taken:
                paths[p].add(number, boxes[b], sure)
                with_box.add(p)
                taken.add(b)
        left = [b for b in range(len(boxes)) if b not in taken]
        return boxes[left], [path for p, path in enumerate(paths) if p not in with_box]


def _distances(places: tuple[np.ndarray, ...], boxes: np.ndarray) -> np.ndarray:
    """How far each box [N, 4] is from the nearest of some places, in their sizes; infinite where the size differs too
    much to be the same face."""
    distances = np.full(len(boxes), np.inf)
    for place in places:
        size = np.maximum(place[2:], 1)
        away = np.abs(boxes[:, :2] + boxes[:, 2:] / 2 - place[:2] - place[2:] / 2) / size
        ratio = np.sqrt(boxes[:, 2:].prod(1) / size.prod())
        fits = (ratio <= RATIO) & (ratio >= 1 / RATIO)
        fits |= overlaps(boxes, np.concatenate([place[:2], size])) >= SAME
        distances = np.minimum(distances, np.where(fits, away.max(1), np.inf))
    return distances
