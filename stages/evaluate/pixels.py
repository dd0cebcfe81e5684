"""Accuracy of the maps against the masks, at the resolution of `evaluate.resolution`, with one picture in memory.

full: as in the MVTec AD protocol (Bergmann et al., IJCV 2021) each map is resized to its picture's own size, where the
mask is as it was drawn. model: the masks shrink to the model's input, and a pixel is a defect if any part of it is.
"""

import tempfile
from pathlib import Path

import numpy as np

from edge.inference.detector import Prediction, picture_map
from edge.inference.modelinfo import ModelInfo
from edge.preprocess import resize
from stages.common.dataset import Item
from stages.common.masks import iou, load_mask, shrink
from stages.common.progress import track
from stages.evaluate.curves import Curves, Thresholds

Size = tuple[int, int]  # height, width


class PixelAccuracy:
    """Sees every test picture once, then judges its map again from a file of raw maps, which are as small as the
    model's output (of several tiles, their maps as one); pictures whose pixels nobody marked don't count."""

    def __init__(self, folder: Path, items: list[Item], info: ModelInfo, resolution: str, scratch: Path):
        self._folder, self._info, self._resolution = folder, info, resolution
        self._any = any(item.mask for item in items)
        self._thresholds = Thresholds()
        self._seen: list[tuple[Item, Size, Size]] = []  # with the size of the picture and of its raw map
        scratch.mkdir(parents=True, exist_ok=True)
        self._raw_maps = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 (closed by `close`)

    def __enter__(self) -> "PixelAccuracy":
        return self

    def __exit__(self, *_) -> None:
        self._raw_maps.close()

    def see(self, item: Item, size: Size, found: Prediction) -> None:
        """Takes note of a picture of that size and of what the model says about it."""
        if self._any and (item.mask or not item.label):
            height, width = found.raw_map.shape
            self._seen.append((item, size, (height, width)))
            self._thresholds.add(self._placed(found.map, size))
            self._raw_maps.write(found.raw_map.astype(np.float32).tobytes())

    def measure(self, fpr_limit: float) -> dict:
        """Pixel AUROC, AUPRO and the mean IoU of the defects, None where no defect has a mask, how they were made, and
        how many masks there are."""
        curves, masks = Curves(self._thresholds.drawn()), 0
        overlaps: list[float] = []
        self._raw_maps.seek(0)
        seen = track(self._seen, f"compare {self._info.name} with the masks") if self._seen else ()
        for item, size, (height, width) in seen:
            content = self._raw_maps.read(4 * height * width)
            raw_map = np.frombuffer(content, np.float32).reshape(height, width)
            mask = load_mask(self._folder, item, *size)
            if mask is None:
                continue
            map = self._placed(picture_map(self._info, raw_map, size), mask.shape)
            mask = mask if mask.shape == map.shape else shrink(mask, *map.shape)
            curves.add(map, mask)
            masks += bool(mask.any())
            if item.label:
                overlaps.append(iou(map > self._info.threshold, mask))
        how = {"pixel_resolution": self._resolution, "aupro_fpr_limit": fpr_limit}
        mean = float(np.mean(overlaps)) if overlaps else None
        return {**curves.areas(fpr_limit), "iou": mean, **how, "masks": masks}

    def _placed(self, map: np.ndarray, size: Size) -> np.ndarray:
        """The map [H, W] of what a picture of that size fills of the model's input, on the pixels that are compared."""
        return resize(map, *size) if self._resolution == "full" else map
