"""The Pareto front of published runs with other settings: int8 AUROC against latency and against size, and its plot."""

from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from experiments import records
from stages.report import plots

COSTS = (("p50_ms", "latency of one inference in ms (log scale)", 1), ("size_bytes", "size in kB (log scale)", 1e-3))
COLOR = "#0173b2"


def non_dominated(points: list[tuple[float, float]]) -> list[int]:
    """The indices of the (cost, value) points to which no other is preferable: as cheap and better, or cheaper and as
    good."""
    return [
        i
        for i, (cost, value) in enumerate(points)
        if not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)
    ]


def front(changes: dict[str, list[dict]], key: str) -> list[str]:
    """The changes on the Pareto front of int8 AUROC and the cost `key`."""
    known = {}
    for name, runs in changes.items():
        if (cost := records.cost(changes, name, key)) is not None:
            known[name] = cost, mean(_auroc(runs))
    return [list(known)[i] for i in non_dominated(list(known.values()))]


def _auroc(runs: list[dict]) -> list[float]:
    return [records.int8(run)["image_auroc"] for run in runs]


def draw(changes: dict[str, list[dict]], path: Path) -> None:
    """Mean and standard deviation over the seeds, a panel per cost, the front as steps; numbers as in the key."""
    plots.style()
    height = 4.4 + 0.22 * ((len(changes) + 1) // 2)
    figure, panels = plt.subplots(1, len(COSTS), figsize=(11, height), sharey=True, layout="constrained")
    drawn = []
    for axes, (key, title, unit) in zip(panels, COSTS, strict=True):
        points, lines, chosen = {}, [], front(changes, key)
        for number, (name, runs) in enumerate(changes.items(), 1):
            if (cost := records.cost(changes, name, key)) is None:
                continue
            x, values = cost * unit, _auroc(runs)
            error = stdev(values) if len(values) > 1 else None
            color = COLOR if name in chosen else plots.GREY
            axes.errorbar(x, mean(values), error, fmt="o", color=color, ms=7, mec="white", capsize=3)
            points[name] = (x, x, mean(values), str(number))
            lines.append((x, mean(values) - (error or 0), x, mean(values) + (error or 0)))
        if not points:
            axes.set_axis_off()
            axes.set_title(f"{title.partition(' (')[0]}: not measured", fontsize=10)
            continue
        line = sorted(points[name] for name in chosen)
        axes.plot([p[0] for p in line], [p[2] for p in line], color=COLOR, lw=1, drawstyle="steps-post", zorder=1)
        for (x, _, y, _), (after, _, higher, _) in pairwise(line):
            lines += [(x, y, after, y), (after, y, after, higher)]
        axes.set(xscale="log", xlabel=title, ylabel="image AUROC of the int8 file" if axes is panels[0] else "")
        costs = [x for x, *_ in points.values()]
        axes.set_xlim(min(costs) / 1.5, max(costs) * 1.5)
        axes.margins(y=0.2)
        drawn.append((axes, list(points.values()), lines))
    for axes, labelled, lines in drawn:  # the panels share the values that they show: after all of them are known
        plots.log_ticks(axes)
        plots.ticks_up_to_one(axes)
        plots.place_labels(figure, axes, labelled, lines)
    names = [f"{i}   {name}" for i, name in enumerate(changes, 1)]
    blank = [Line2D([], [], linestyle="") for _ in names]
    figure.legend(blank, names, loc="outside lower center", ncols=2, fontsize=9, handlelength=0, frameon=False)
    plots.save(figure, path)
