"""Test pictures with their ground truth, above the maps of the teacher and of the smallest student."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from edge.errors import UserError
from edge.inference.scoring import is_defect
from edge.preprocess import read_image, read_mask
from stages.common import dataset
from stages.report import plots
from stages.report.formatting import kind

TEST = Path("data/test")
COLUMNS = 3  # more are too small to read on a phone
RIGHT, WRONG = "#1b6ca8", "#c2410c"
STOPS = ((0, "#10162f"), (0.5, "#5b83b5"), (0.5, "#f08a24"), (1, "#fff4c9"))  # turns warm at the threshold
HEAT = LinearSegmentedColormap.from_list("threshold", STOPS)


def compared(variants: dict, evals: dict) -> list[str]:
    """The variants to show: the teacher, and of the students whose accuracy is measured that of the smallest file (the
    last of equals)."""
    teacher = next((name for name, variant in variants.items() if variant.role == "teacher"), None)
    students = [name for name, v in variants.items() if v.role == "student" and kind(evals[name]["how"]) == "measured"]
    student = min(reversed(students), key=lambda name: evals[name]["size_bytes"], default=None)
    return [name for name in (teacher, student) if name] or [next(iter(variants))]


def choose(defects: list[str], scores: np.ndarray, wanted: int) -> list[int]:
    """`wanted` pictures, one good and the rest taken in turn from the defect types, spread evenly over the ranks of
    their scores: nobody picks the pretty ones."""
    available = {defect: defects.count(defect) for defect in sorted(set(defects) - {"good"})}
    taken = {"good": 1 if "good" in defects and (wanted > 1 or not available) else 0} | dict.fromkeys(available, 0)
    while sum(taken.values()) < wanted and any(taken[d] < n for d, n in available.items()):
        for defect, n in available.items():
            if sum(taken.values()) < wanted and taken[defect] < n:
                taken[defect] += 1
    out = []
    for name in (*available, "good"):
        ranked = sorted((i for i, d in enumerate(defects) if d == name), key=lambda i: (scores[i], i))
        out += [ranked[int((k + 0.5) * len(ranked) / taken[name])] for k in range(taken[name])]
    return out


def draw(variants: dict, evals: dict, wanted: int, path: Path, depth: int | None = None) -> str:
    """Draws the pictures above their heat maps; returns the caption. depth: `input.depth`."""
    plots.style()
    items = {item.path: item for item in dataset.read_index(TEST)}
    shown = compared(variants, evals)
    found = {name: read_maps(name, items) for name in shown}
    first = found[shown[0]]
    picked = choose(first["defect"].tolist(), first["score"], wanted)
    columns = min(COLUMNS, len(picked))
    bands = -(-len(picked) // columns)
    rows = 1 + len(shown)
    figure, grid = plt.subplots(
        bands * rows, columns, figsize=(1.75 * columns + 0.4, 1.98 * bands * rows), squeeze=False, layout="constrained"
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for at, i in enumerate(picked):
        item = items[str(first["path"][i])]
        column, top = at % columns, at // columns * rows
        image, mask = picture(item, depth)
        show(grid[top, column], image, mask, item.defect, "#2b313b")
        for k, name in enumerate(shown, 1):
            heat(grid[top + k, column], found[name], evals[name]["threshold"], i, image.shape[:2], mask, item.label)
    for band in range(bands):
        for k, name in enumerate(["picture", *shown]):
            axes = grid[band * rows + k, 0]
            axes.annotate(
                name, (0, 0.5), (-7, 0), "axes fraction", "offset points", rotation=90, ha="right", va="center"
            )
    plots.save(figure, path)
    return (
        "Test pictures, spread over the ranks of their scores, and the maps of "
        + " and ".join(shown)
        + " (measured). Cyan: ground truth. Warm colours: above the variant's threshold; each variant has one "
        "scale, from the median of its good pictures to as far above the threshold. Over each map: score and verdict."
    )


def read_maps(name: str, items: dict) -> dict[str, np.ndarray]:
    """The scores and small maps that `evaluate` kept; UserError when they are of other pictures."""
    path = f"artifacts/eval/{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            found = {key: kept[key] for key in ("path", "defect", "score", "map")}
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run dvc repro") from None
    if set(found["path"].tolist()) != set(items):
        raise UserError(f"{path}: made from other test pictures than data/test; run dvc repro")
    order = np.argsort(found["path"])
    return {key: value[order] for key, value in found.items()}


def picture(item: dataset.Item, depth: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The picture and its bool mask, None where it has none."""
    return read_image(TEST / item.path, depth), read_mask(TEST / item.mask) if item.mask else None


def scale(found: dict, threshold: float) -> tuple[float, float]:
    """The ends of the colours of every map of a variant: the median of its good pictures, and as far above the
    threshold."""
    low = float(np.median(found["map"][found["defect"] == "good"])) if "good" in found["defect"] else 0.0
    low = low if low < threshold else threshold - 1e-6 - abs(threshold)
    return low, 2 * threshold - low


def relative(score: float, threshold: float) -> str:
    """A score as people compare it: in thresholds, where these are above 0."""
    return f"{score / threshold:.2f}\u00d7 threshold" if threshold > 0 else f"score {score:.3g}"


def heat(axes, found: dict, threshold: float, i: int, shape: tuple, mask, label: int) -> None:
    """One map, its score and verdict; every map of a variant has the same scale."""
    score = float(found["score"][i])
    verdict = {(1, True): "found", (1, False): "missed", (0, True): "false alarm", (0, False): "good"}
    above = is_defect(score, threshold)
    text = f"{relative(score, threshold)}\n{verdict[label, above]}"
    ends = scale(found, threshold)
    show(axes, found["map"][i].astype(np.float32), mask, text, RIGHT if above == bool(label) else WRONG, shape, ends)


def show(axes, image, mask, text: str, color: str, shape=None, ends=(0.0, 1.0)) -> None:
    """A picture or a map stretched to a square cell, the outline of the ground truth over it, a line above it."""
    height, width = shape or image.shape[:2]
    extent = (0, width, height, 0)
    colors = {"cmap": HEAT, "vmin": ends[0], "vmax": ends[1], "interpolation": "bilinear"} if shape else {}
    axes.imshow(image, extent=extent, aspect=height / width, **colors)
    if mask is not None and mask.any():
        x, y = (np.arange(n) + 0.5 for n in (width, height))
        padded = np.pad(mask, 1).astype(np.float32)
        x, y = np.concatenate([[0], x, [width]]), np.concatenate([[0], y, [height]])
        axes.contour(x, y, padded, [0.5], colors="#22e5ff", linewidths=0.7 if shape else 1.1)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_title(text, fontsize=8, color=color, loc="center", pad=3)
