"""What the model saw, drawn into the frame: heat map, contour and box of each region, score, rate, state."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from edge.arrays import Floats, Image

RED, GREEN, WHITE = (235, 50, 40), (60, 200, 90), (255, 255, 255)  # RGB
LEAST_WIDTH = 256  # a smaller picture is enlarged so that the text can be read,
MOST_HEIGHT = 4096  # but not beyond this: a line of pixels would become gigabytes
GREYS = np.arange(256, dtype=np.uint8)[:, None]
COLOURS = cv2.cvtColor(cv2.applyColorMap(GREYS, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB).reshape(1, 256, 3)


@dataclass(frozen=True)
class Region:
    """A part of the map that stands out: box and contour int32 [N, 1, 2] in pixels of the map, its highest value."""

    box: tuple[int, int, int, int]
    contour: np.ndarray
    peak: float

    def scaled(self, scale_x: float, scale_y: float) -> tuple[int, int, int, int]:
        """The box in another picture's pixels."""
        x, y, w, h = self.box
        return round(x * scale_x), round(y * scale_y), round(w * scale_x), round(h * scale_y)


def regions(map: Floats, level: float = 0.5, least_area: float = 0.002) -> list[Region]:
    """The regions of a map that judged a defect, largest first.

    The threshold adapts to the map: it lies at `level` of the way from its median (the good surface) to its peak.
    Regions under `least_area` of the picture are dropped.
    """
    median, peak = _median(map), float(map.max())
    mask = (map > median + level * (peak - median)).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = []
    for contour in contours:
        inside = cv2.drawContours(np.zeros_like(mask), [contour], 0, 1, cv2.FILLED)
        if np.count_nonzero(inside) >= least_area * map.size:
            found.append(
                (np.count_nonzero(inside), Region(cv2.boundingRect(contour), contour, float(map[inside > 0].max())))
            )
    return [region for _, region in sorted(found, key=lambda pair: -pair[0])]


def draw(image: Image, map: Floats, threshold: float, shown: list[Region], alarm: bool, text: str) -> Image:
    """A new picture uint8 RGB, at least LEAST_WIDTH wide; `image` stays as it is."""
    height, width = image.shape[:2]
    times = max(1, min(math.ceil(LEAST_WIDTH / width), MOST_HEIGHT // height))
    size = (width * times, height * times)
    out = cv2.resize(_heat(image, map, threshold), size, interpolation=cv2.INTER_LINEAR)
    scale_x, scale_y = size[0] / map.shape[1], size[1] / map.shape[0]
    thick = max(1, round(size[0] / 300))
    for region in shown:
        outline = (region.contour + 0.5) * (scale_x, scale_y)
        cv2.polylines(out, [np.round(outline).astype(np.int32)], True, WHITE, thick, cv2.LINE_AA)
        x, y, w, h = region.scaled(scale_x, scale_y)
        cv2.rectangle(out, (x, y), (x + w, y + h), RED, thick)
    return _status(out, alarm, text, thick)


def _median(map: Floats) -> float:
    """The median of every fourth row and column: the map is smooth, and this takes a tenth of the time."""
    return float(np.median(map[::4, ::4]))


def _heat(image: Image, map: Floats, threshold: float) -> Image:
    """The picture with the map blended in: nothing at its median, half at the threshold, all colour at twice that."""
    low = _median(map)
    strength = np.clip((map - low) * (127 / max(threshold - low, 1e-6)), 0, 255).astype(np.uint8)
    strength = cv2.resize(strength, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    opacity = cv2.cvtColor(cv2.multiply(strength, strength, scale=0.7 / 255), cv2.COLOR_GRAY2RGB)
    colour = cv2.LUT(cv2.cvtColor(strength, cv2.COLOR_GRAY2RGB), COLOURS)
    seen, glow = cv2.multiply(image, 255 - opacity, scale=1 / 255), cv2.multiply(colour, opacity, scale=1 / 255)
    blended: Image = cv2.add(seen, glow)
    return blended


def _status(picture: Image, alarm: bool, text: str, thick: int) -> Image:
    """The picture in a frame of the state's colour, with a line below it; even sides, for the codec."""
    height, width = picture.shape[:2]
    bar = 2 * round(width / 32) + height % 2
    out = np.zeros((height + bar, width + width % 2, 3), np.uint8)
    out[:height, :width] = picture
    colour = RED if alarm else GREEN
    cv2.rectangle(out, (0, 0), (width - 1, height - 1), colour, 2 * thick)
    line = f"{'DEFECT' if alarm else 'good'}  {text}"
    at = (bar // 3, height + bar * 3 // 4)
    cv2.putText(out, line, at, cv2.FONT_HERSHEY_SIMPLEX, width / 750, colour, thick, cv2.LINE_AA)
    return out
