"""Pixel AUROC and AUPRO of maps that are never in memory together: one pass draws thresholds, the next one counts."""

from collections.abc import Iterator

import cv2
import numpy as np

MOST = 1 << 18  # thresholds; a choice: both areas are then within 1e-4 of those with every value as a threshold
BLOCK = 1 << 20  # values that are sorted at a time


class Thresholds:
    """A sample of all values that are added, each drawn with the same chance, so that it follows their quantiles
    whatever their range is; all of them as long as they are no more than `most`."""

    def __init__(self, most: int = MOST):
        self._most, self._share, self._count = most, 1.0, 0
        self._parts: list[np.ndarray] = []
        self._random = np.random.default_rng(0)

    def add(self, values: np.ndarray) -> None:
        for block in _blocks(values):
            if self._share < 1:
                block = block[self._random.integers(0, block.size, max(1, round(block.size * self._share)))]
            self._parts.append(block.copy())
            self._count += block.size
            if self._count > self._most:
                self._thin_out()

    def _thin_out(self) -> None:
        """Keeps half of what fits, so that this is seldom needed."""
        kept = self._most // 2
        self._parts = [self._random.choice(np.concatenate(self._parts), kept, replace=False)]
        self._share *= kept / self._count
        self._count = kept

    def drawn(self) -> np.ndarray:
        """The distinct values of the sample, ascending."""
        return np.unique(np.concatenate(self._parts)) if self._parts else np.zeros(0, np.float32)


class Above:
    """The weight of all values above each threshold, and of those at or above it; without weights their number."""

    def __init__(self, thresholds: np.ndarray):
        self._thresholds = thresholds
        self._above = np.zeros((2, thresholds.size))  # above; at or above
        self._waiting: list[tuple[np.ndarray, np.ndarray | None]] = []
        self._count = 0
        self._total = 0.0

    def add(self, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        """At most BLOCK values; small pictures wait for others, since a search through all thresholds has its price."""
        self._waiting.append((values, weights))
        self._count += values.size
        if self._count >= BLOCK:
            self._search()

    def _search(self) -> None:
        if not self._waiting:
            return
        values = np.concatenate([values for values, _ in self._waiting])
        if self._waiting[0][1] is None:
            values.sort()
            above = np.arange(values.size, -1, -1, dtype=np.float64)
        else:
            order = np.argsort(values)
            weights = np.concatenate([weights for _, weights in self._waiting if weights is not None])
            values, above = values[order], np.append(np.cumsum(weights[order][::-1])[::-1], 0)
        self._above[0] += above[np.searchsorted(values, self._thresholds, side="right")]
        self._above[1] += above[np.searchsorted(values, self._thresholds, side="left")]
        self._total += above[0]
        self._waiting, self._count = [], 0

    def shares(self) -> np.ndarray | None:
        """As the threshold falls: 0, the share above and at or above each of them, 1; None without any value."""
        self._search()
        if not self._total:
            return None
        falling = self._above[:, ::-1].T.ravel() / self._total
        return np.concatenate([[0], falling, [1]])


class Curves:
    """The ROC curve of pixels and the curve of per-region overlap over the maps and masks that are added.

    Both are exact at every threshold, values that equal one being counted apart, and linear between two: with all
    distinct values as thresholds they are the exact curves.
    """

    def __init__(self, thresholds: np.ndarray):
        self._good, self._defect, self._regions = (Above(thresholds) for _ in range(3))

    def add(self, map: np.ndarray, mask: np.ndarray) -> None:
        """The float32 map [H, W] of one picture and its bool mask alike."""
        if map.shape != mask.shape or map.ndim != 2 or mask.dtype != bool:
            raise ValueError(f"map {map.shape} and bool mask {mask.shape} [{mask.dtype}] must be [H, W] alike")
        if not mask.any():
            for block in _blocks(map):
                self._good.add(block.copy())  # a view would keep the whole map
            return
        _, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        weights = 1 / np.maximum(stats[:, cv2.CC_STAT_AREA], 1)  # so that every region weighs 1
        for values, marked, region in zip(_blocks(map), _blocks(mask), _blocks(regions), strict=True):
            self._good.add(values[~marked])
            self._defect.add(values[marked])
            self._regions.add(values[marked], weights[region[marked]])

    def areas(self, fpr_limit: float) -> dict[str, float | None]:
        """Pixel AUROC, and AUPRO (Bergmann et al., MVTec AD, IJCV 2021): the overlap with each 8-connected defect
        region, averaged over the regions, integrated over the false positive rate from 0 to `fpr_limit` and divided by
        `fpr_limit`. None without a good and a defect pixel."""
        fpr, tpr, overlap = (above.shares() for above in (self._good, self._defect, self._regions))
        if fpr is None or tpr is None or overlap is None:
            return {"pixel_auroc": None, "aupro": None}
        return {"pixel_auroc": _area_to(fpr, tpr, 1), "aupro": _area_to(fpr, overlap, fpr_limit) / fpr_limit}


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """The values in pieces of BLOCK, flat."""
    flat = values.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        yield flat[start : start + BLOCK]


def _area_to(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    """The area under the curve from 0 to `limit`."""
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside < x.size:
        slope = (y[inside] - y[inside - 1]) / (x[inside] - x[inside - 1])
        at_limit = y[inside - 1] + slope * (limit - x[inside - 1])
        x, y = np.append(x[:inside], limit), np.append(y[:inside], at_limit)
    return float(np.trapezoid(y, x))
