"""Labelled defects side by side with the examples that they were taken for, as a picture for the report."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from edge.preprocess import read_image
from stages.report import plots

RIGHT, WRONG, FRAME = "#2e7d32", "#c62828", "#e8871e"


def draw(kept: dict[str, np.ndarray], path: Path, depth: int | None) -> None:
    """For each type a pair of pictures that was told right and one that was told wrong, the nearest ones of all.
    kept: what embedded.npz holds; depth: `input.depth`."""
    plots.style()
    names = sorted(set(kept["type"].tolist()))
    judged, types = kept["judged"], np.array([names.index(kind) for kind in kept["type"]])
    near = kept["nearest"]
    far = np.linalg.norm(kept["vector"][judged] - kept["vector"][near], axis=1)
    figure, grid = plt.subplots(len(names), 4, figsize=(6.4, 1.75 * len(names)), squeeze=False, layout="constrained")
    for row, name in zip(grid, names, strict=True):
        mine = types[judged] == names.index(name)
        for axes in row:
            axes.set_axis_off()
        for at, hit in ((0, True), (2, False)):
            same = near >= 0
            same &= (types[near] == types[judged]) == hit
            fits = mine & same & ((kept["told"] == types[judged]) == hit)
            if not fits.any():
                continue
            best = int(np.where(fits, far, np.inf).argmin())
            for axes, i in zip(row[at : at + 2], (judged[best], near[best]), strict=True):
                axes.imshow(read_image(Path(str(kept["folder"][i])) / str(kept["path"][i]), depth))
                x, y, width, height = kept["box"][i]
                axes.add_patch(plt.Rectangle((x, y), width, height, fill=False, color=FRAME, lw=1))
                axes.set_title(str(kept["type"][i]), fontsize=8, color=RIGHT if hit else WRONG, pad=2)
    plots.save(figure, path)
