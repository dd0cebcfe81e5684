"""The gallery: worst misses, worst false alarms and typical hits of one variant, each as picture, map and contour."""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from edge.errors import UserError
from edge.inference.scoring import is_defect
from stages.common import dataset
from stages.illustrate import examples
from stages.report import plots

TILE, GAP = 176, 4  # longest side of a tile, and the white between two, in pixels
QUALITY = 85  # of JPEG
TRUTH, FOUND = (34, 229, 255), (255, 122, 24)  # RGB of the outlines
LEVEL = 0.5  # of the way from a map's median to its peak: where the device draws its contour
GROUPS = {  # name: (heading, what stands there when it is empty)
    "misses": ("Worst misses", "No defect was missed."),
    "alarms": ("Worst false alarms", "No good picture was called a defect."),
    "hits": ("Typical hits", "No defect was found."),
}
HEAD = ("group", "picture", "defect", "score", "threshold", "file")


class Tile(NamedTuple):
    """A picture of the gallery: its file below the folder of the gallery, and what is said of it."""

    group: str
    path: str
    defect: str
    score: float
    threshold: float
    file: str

    @property
    def caption(self) -> str:
        return f"{self.defect}, {examples.relative(self.score, self.threshold)}"


def choose(found: dict, items: dict[str, dataset.Item], threshold: float, wanted: int) -> dict[str, list[int]]:
    """{group: places in `found`}, `wanted` of each at most: the defects that score lowest, the good pictures that score
    highest, and hits near the median of their type's, types in turn. Of a part or clip only the worst is shown."""
    scores = [float(score) for score in found["score"]]
    of = [items[str(path)] for path in found["path"]]
    above = [is_defect(score, threshold) for score in scores]
    places = range(len(scores))
    misses = sorted((i for i in places if of[i].label and not above[i]), key=lambda i: (scores[i], i))
    alarms = sorted((i for i in places if not of[i].label and above[i]), key=lambda i: (-scores[i], i))
    hits = [i for i in places if of[i].label and above[i]]
    by_type = []
    for defect in sorted({of[i].defect for i in hits}):
        mine = [i for i in hits if of[i].defect == defect]
        middle = np.median([scores[i] for i in mine])
        by_type.append(sorted(mine, key=lambda i: (abs(scores[i] - middle), i)))
    chosen = {"misses": misses, "alarms": alarms, "hits": _in_turn(by_type)}
    return {group: _one_of_each(order, of)[:wanted] for group, order in chosen.items()}


def _in_turn(lists: list[list[int]]) -> Iterator[int]:
    """The first of each, then the second of each, and so on."""
    waiting = deque(map(deque, lists))
    while waiting:
        first = waiting.popleft()
        yield first.popleft()
        if first:
            waiting.append(first)


def _one_of_each(order: Iterable[int], of: list[dataset.Item]) -> list[int]:
    seen: dict[str, int] = {}
    for i in order:
        seen.setdefault(of[i].group or of[i].path, i)
    return list(seen.values())


def record(variant: str, tiles: list[Tile]) -> dict:
    """The gallery as the report shows it: {variant, groups}, of each group {heading, empty, tiles}."""
    groups = []
    for name, (heading, empty) in GROUPS.items():
        shown = [{"path": t.path, "caption": t.caption, "file": t.file} for t in tiles if t.group == name]
        groups.append({"heading": heading, "empty": empty, "tiles": shown})
    return {"variant": variant, "groups": groups}


def draw(variant: str, threshold: float, wanted: int, folder: Path, depth: int | None = None) -> list[Tile]:
    """Writes the strips of a variant into `folder`/gallery, and what they show into `folder`/gallery.csv."""
    items = {item.path: item for item in dataset.read_index(examples.TEST)}
    found = examples.read_maps(variant, items)
    ends = examples.scale(found, threshold)
    (folder / "gallery").mkdir()
    tiles = []
    for group, places in choose(found, items, threshold, wanted).items():
        for number, i in enumerate(places, 1):
            item = items[str(found["path"][i])]
            image, mask = examples.picture(item, depth)
            file = f"gallery/{group}-{number}.jpg"
            _write(folder / file, strip(image, mask, found["map"][i].astype(np.float32), ends))
            tiles.append(Tile(group, item.path, item.defect, float(found["score"][i]), threshold, file))
    plots.write_csv(folder / "gallery.csv", HEAD, [tuple(tile) for tile in tiles])
    return tiles


def strip(image: np.ndarray, mask: np.ndarray | None, map: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Picture | map | contour side by side, uint8 RGB, all at the size of a tile: the truth is outlined on the picture,
    what stands out in the map on its copy. image: uint8 [H, W, 3]; mask: bool [H, W]; map: [h, w]."""
    scale = TILE / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(image, (width, height), interpolation=method)
    level = cv2.resize(map, (width, height), interpolation=cv2.INTER_LINEAR)
    heat = examples.HEAT((level - ends[0]) / (ends[1] - ends[0]), bytes=True)[..., :3]
    median, peak = float(np.median(level)), float(level.max())
    contour = outline(picture, level > median + LEVEL * (peak - median), FOUND)
    if mask is not None:
        picture = outline(picture, cv2.resize(mask.astype(np.float32), (width, height)) > 0, TRUTH)
    white = np.full((height, GAP, 3), 255, np.uint8)
    return np.hstack([picture, white, heat, white, contour])


def outline(picture: np.ndarray, mask: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """A copy of the picture with the outlines of the mask."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(picture.copy(), contours, -1, color, 2, cv2.LINE_AA)


def _write(path: Path, image: np.ndarray) -> None:
    fine, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not fine:
        raise UserError(f"{path}: OpenCV writes no JPEG of {image.shape[1]} x {image.shape[0]} px")
    path.write_bytes(data.tobytes())
