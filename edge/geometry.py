"""How a picture of any size becomes what a model takes, and which part of the model's map is the picture's; the same
code trains, evaluates and deploys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge.arrays import Floats, Image
from edge.preprocess import resize
from edge.tiling import Tiles

Size = tuple[int, int]  # height, width


def stretched(size: Size, canvas: Size) -> Size:
    """All of the canvas: the aspect ratio is lost."""
    return canvas


def letterboxed(size: Size, canvas: Size) -> Size:
    """The largest part of the canvas that has the picture's aspect ratio, to the nearest pixel."""
    (h, w), (height, width) = size, canvas
    if h * width >= w * height:
        return height, max(1, (2 * w * height + h) // (2 * h))
    return max(1, (2 * h * width + w) // (2 * w)), width


FITS: dict[str, Callable[[Size, Size], Size]] = {  # what a picture of that size fills of a canvas, from its upper left
    "stretch": stretched,
    "letterbox": letterboxed,
}


@dataclass(frozen=True)
class Geometry:
    """The model's input is height x width; a picture is fitted to the canvas, which the tiles cover.

    `size` is always height and width of the picture itself.
    """

    height: int
    width: int
    fit: str = "stretch"
    tiles: Tiles = field(default_factory=Tiles)

    @property
    def canvas(self) -> Size:
        return self.tiles.covered(self.height, self.width)

    def area(self, size: Size) -> Size:
        """Height and width of what the picture fills of the canvas, from its upper left corner."""
        return FITS[self.fit](size, self.canvas)

    def sample(self, picture: Image) -> Image:
        """A picture, frame or clip [H, W] or [H, W, C] on the canvas; what it does not fill mirrors it.

        So padding looks like the picture. A repeated border makes streaks, each unlike the others, which fill a memory
        bank with what no picture shows.
        """
        area, canvas = self.area(picture.shape[:2]), self.canvas
        found = resize(picture, *area)
        if area == canvas:
            return found
        rest = [(0, canvas[0] - area[0]), (0, canvas[1] - area[1]), *[(0, 0)] * (picture.ndim - 2)]
        return np.pad(found, rest, mode="symmetric")

    def crops(self, sample: Image) -> list[Image]:
        """What the model takes of a sample of the canvas' size, tile by tile."""
        return self.tiles.crops(sample, self.height, self.width)

    def joined(self, maps: Sequence[Floats], size: Size) -> Floats:
        """The map [h, w, ...] of the picture, from those of all tiles: cut to the cells whose centre is in it."""
        whole = self.tiles.stitched(maps, self.height, self.width)
        h, w = (
            _inside(cells, part, side)
            for cells, part, side in zip(whole.shape, self.area(size), self.canvas)  # noqa: B905 (3.10)
        )
        return whole[:h, :w]

    def extended(self, map: Floats, tile: Size) -> Floats:
        """The map of a picture on the whole canvas again, its border repeated; tile: height and width of one map."""
        h, w = self.tiles.cells(self.height, self.width, *tile)
        return np.pad(map, [(0, h - map.shape[0]), (0, w - map.shape[1])], mode="edge")


def _inside(cells: int, part: int, side: int) -> int:
    """How many of the cells along a side of the canvas have their centre in the first `part` pixels of it, at least
    one."""
    return max(1, -((side - 2 * part * cells) // (2 * side)))
