"""The score of every test clip over time, with the truth shaded, beside the frame in which it is highest."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from stages.common import dataset
from stages.illustrate.examples import RIGHT, TEST, WRONG, compared, picture
from stages.report import plots

MOST = 16  # clips that are drawn, evenly spaced: a choice


def draw(variants: dict, evals: dict, path: Path, depth: int | None = None) -> str | None:
    """Draws the clips of the variant that `examples` shows last, the smallest student; returns the caption, or None
    where the test pictures are no clips."""
    items = {item.path: item for item in dataset.read_index(TEST)}
    if not all(item.clip for item in items.values()):
        return None
    name = compared(variants, evals)[-1]
    threshold = evals[name]["threshold"]
    with np.load(f"artifacts/eval/{name}.npz", allow_pickle=False) as kept:
        scores = dict(zip(kept["path"].tolist(), kept["score"].tolist(), strict=True))
    clips: dict[str, list[dataset.Item]] = {}
    for item in sorted(items.values(), key=lambda item: (item.clip, item.frame)):
        clips.setdefault(item.clip, []).append(item)
    shown = dataset.evenly(list(clips), MOST)
    plots.style()
    figure, grid = plt.subplots(
        len(shown), 2, figsize=(9.6, 1.25 * len(shown) + 0.3), squeeze=False, layout="constrained", width_ratios=(6, 1)
    )
    highest = max(scores.values())
    lowest = min(scores.values())
    alike = len({len(clips[clip]) for clip in shown}) == 1  # then one axis of frames is enough
    for (line, still), clip in zip(grid, shown, strict=True):
        frames = clips[clip]
        values = np.array([scores[item.path] for item in frames])
        peak = frames[int(values.argmax())]
        over_time(line, frames, values, threshold, (lowest, highest))
        line.set_title(clip, fontsize=8, loc="left", pad=2)
        line.tick_params(labelbottom=clip == shown[-1] or not alike)
        image, mask = picture(peak, depth)
        still.imshow(image)
        if mask is not None and mask.any():
            still.contour(mask.astype(np.float32), [0.5], colors="#22e5ff", linewidths=0.9)
        still.set_axis_off()
        colour = RIGHT if (values.max() > threshold) == bool(peak.label) else WRONG
        still.set_title(f"frame {peak.frame + 1}", fontsize=8, color=colour, pad=2)
    grid[-1, 0].set_xlabel("frame", fontsize=8)
    plots.save(figure, path)
    left = f" {len(shown)} of {len(clips)} clips." if len(shown) < len(clips) else ""
    return (
        f"Score of {name} over time (measured), frame by frame, without smoothing. Shaded: anomalous frames. Dashed: "
        f"the validation threshold. Beside it the frame of the highest score, with the marked pixels.{left}"
    )


def over_time(axes, frames: list[dataset.Item], values: np.ndarray, threshold: float, limits: tuple) -> None:
    """One line of scores, the truth behind it."""
    at = np.arange(1, len(frames) + 1)
    labels = np.array([item.label for item in frames], bool)
    ends = np.flatnonzero(np.diff(np.concatenate([[False], labels, [False]]).astype(np.int8)))
    for start, end in ends.reshape(-1, 2) + 0.5:
        axes.axvspan(start, end, color="#f2c9a6", linewidth=0)
    axes.plot(at, values, color="#1b6ca8", linewidth=1.0)
    axes.axhline(threshold, color="#2b313b", linewidth=0.7, linestyle="--")
    margin = 0.05 * (limits[1] - limits[0]) or 1.0
    axes.set_ylim(limits[0] - margin, limits[1] + margin)
    axes.set_xlim(1, len(frames))
    axes.tick_params(labelsize=7)
