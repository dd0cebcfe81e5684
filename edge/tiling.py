"""Tiles: a picture as overlapping crops of one size, which a model takes one by one, and their maps as one map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge.arrays import Floats, Image

Sides = tuple[int, int]  # down, across


@dataclass(frozen=True)
class Tiles:
    """A grid of `rows` x `columns` crops, row by row; neighbours share `overlap` pixels."""

    rows: int = 1
    columns: int = 1
    overlap: int = 0

    @property
    def count(self) -> int:
        return self.rows * self.columns

    def fit(self, height: int, width: int) -> bool:
        """Whether tiles of that size overlap by half of a side at most, so that no place is in more than two of a row
        or column."""
        return all(n == 1 or 2 * self.overlap <= side for n, side in ((self.rows, height), (self.columns, width)))

    def covered(self, height: int, width: int) -> Sides:
        """Height and width of what tiles of height x width cover together."""
        return _length(height, self.rows, self.overlap), _length(width, self.columns, self.overlap)

    def crops(self, sample: Image, height: int, width: int) -> list[Image]:
        """The tiles of a sample that has the size they cover, as views."""
        corners = self._corners(height - self.overlap, width - self.overlap)
        return [sample[y : y + height, x : x + width] for y, x in corners]

    def cells(self, height: int, width: int, map_height: int, map_width: int) -> Sides:
        """Height and width of the stitched map, where tiles of height x width have maps of that size."""
        (h, w), (down, across) = self._grid(height, width, map_height, map_width)
        return _length(h, self.rows, down), _length(w, self.columns, across)

    def stitched(self, maps: Sequence[Floats], height: int, width: int) -> Floats:
        """One map of the maps [h, w, ...] of all tiles of height x width.

        Where tiles overlap, the weight of each falls to 0 towards its own border: a network sees no context beyond
        it, and the neighbour sees more. Where a tile begins between two cells of the map, maps are enlarged first.
        """
        if self.count == 1:
            return maps[0]
        (h, w), common = self._grid(height, width, *maps[0].shape[:2])
        whole = np.zeros((*self.cells(height, width, *maps[0].shape[:2]), *maps[0].shape[2:]), np.float32)
        corners = self._corners(h - common[0], w - common[1])
        for i, ((y, x), map) in enumerate(zip(corners, maps)):  # noqa: B905 (strict needs Python 3.10)
            row, column = divmod(i, self.columns)
            down, across = _weights(h, common[0], row, self.rows), _weights(w, common[1], column, self.columns)
            weight = np.outer(down, across).reshape(h, w, *[1] * (map.ndim - 2))
            whole[y : y + h, x : x + w] += weight * _enlarged(map, h, w)
        return whole

    def _grid(self, height: int, width: int, map_height: int, map_width: int) -> tuple[Sides, Sides]:
        """Cells of the map of one tile, down and across, and how many of them neighbours share."""
        h, w = _fine(map_height, height, self.rows, self.overlap), _fine(map_width, width, self.columns, self.overlap)
        return (h, w), (self.overlap * h // height, self.overlap * w // width)

    def _corners(self, down: int, across: int) -> Iterator[tuple[int, int]]:
        return ((row * down, column * across) for row in range(self.rows) for column in range(self.columns))


def _enlarged(map: Floats, height: int, width: int) -> Floats:
    if map.shape[:2] == (height, width):
        return map
    if map.ndim == 3:  # one by one: OpenCV takes less than 512 channels
        return np.stack([_enlarged(map[..., i], height, width) for i in range(map.shape[2])], axis=-1)
    found: Floats = cv2.resize(map, (width, height), interpolation=cv2.INTER_LINEAR)
    return found


def _length(side: int, count: int, overlap: int) -> int:
    return count * side - (count - 1) * overlap


def _fine(cells: int, side: int, count: int, overlap: int) -> int:
    """Cells of a map along a tile's side, so many more where needed that the next tile begins with a cell."""
    unit = side // math.gcd(side, overlap) if count > 1 else 1
    return -(-cells // unit) * unit


def _weights(cells: int, common: int, place: int, count: int) -> Floats:
    """Along one side, of the tile at that place of `count`: 1, and a ramp over the cells that a neighbour has too."""
    ramp = ((np.arange(common) + 0.5) / max(common, 1)).astype(np.float32)
    weights = np.ones(cells, np.float32)
    if place:
        weights[:common] = ramp
    if place < count - 1:
        weights[cells - common :] = 1 - ramp
    return weights
