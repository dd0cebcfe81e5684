"""The plot of published runs with other settings: int8 AUROC over latency and over size, and who is not beaten."""

from pathlib import Path
from statistics import mean, stdev

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from stages.report import plots, sweep

COSTS = (("p50_ms", "latency of one inference in ms (log scale)", 1), ("size_bytes", "size in kB (log scale)", 1e-3))


def draw(folder: Path, path: Path) -> None:
    """Mean over the seeds and standard deviation, a panel per cost, the front as a line; numbers as in the key."""
    plots.style()
    found = sweep.groups(folder)
    height = 4.4 + 0.22 * ((len(found) + 1) // 2)
    figure, panels = plt.subplots(1, len(COSTS), figsize=(11, height), sharey=True, layout="constrained")
    drawn = []
    for axes, (key, title, unit) in zip(panels, COSTS, strict=True):
        points, best = [], sweep.best(found, key)
        for number, (name, runs) in enumerate(found.items(), 1):
            if (cost := sweep.cost(found, name, key)) is None:
                continue
            cost *= unit
            values = [run["steps"][sweep.INT8]["image_auroc"] for run in runs]
            axes.errorbar(
                cost,
                mean(values),
                stdev(values) if len(values) > 1 else None,
                fmt="o",
                color="#0173b2" if name in best else plots.GREY,
                ms=7,
                mec="white",
                capsize=3,
            )
            points.append((cost, cost, mean(values), str(number)))
        if not points:
            axes.set_axis_off()
            axes.set_title(f"{title.partition(' (')[0]}: not measured", fontsize=10)
            continue
        line = sorted(points[i] for i in sweep.front([(cost, value) for cost, _, value, _ in points]))
        axes.plot([p[0] for p in line], [p[2] for p in line], color="#0173b2", lw=1, drawstyle="steps-post", zorder=1)
        axes.set(xscale="log", xlabel=title, ylabel="image AUROC of the int8 file" if axes is panels[0] else "")
        axes.set_xlim(min(p[0] for p in points) / 1.5, max(p[0] for p in points) * 1.5)
        axes.margins(y=0.2)
        drawn.append((axes, points))
    for axes, points in drawn:  # the panels share the values that they show: after all of them are known
        plots.log_ticks(axes)
        plots.ticks_up_to_one(axes)
        plots.place_labels(figure, axes, points)
    names = [f"{i}   {'the default' if name == sweep.DEFAULT else name}" for i, name in enumerate(found, 1)]
    nothing = [Line2D([], [], linestyle="") for _ in names]
    figure.legend(nothing, names, loc="outside lower center", ncols=2, fontsize=9, handlelength=0, frameon=False)
    plots.save(figure, path)
