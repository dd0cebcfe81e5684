"""Plots of accuracy and size: every variant against latency, by defect type, and by what it weighs."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from stages.report import formatting, plots, resolution
from stages.report.ablation import ordered
from stages.report.plots import GREY, MARKERS, Drawn
from stages.report.summary import COST, PERCENTILES

PERCENTILES_MS = tuple(f"{name}_ms" for name in PERCENTILES)


def accuracy_latency(ran: list[dict], color: dict) -> Drawn:
    """Image AUROC over p50 latency on a log axis, a marker shape per device, every point labelled."""
    ran = [result for result in ran if result["image_auroc"] is not None]
    devices = list(dict.fromkeys(result["device"] for result in ran))
    figure, axes = plt.subplots(figsize=(plots.WIDTH, 3.6), layout="constrained")
    points = []
    for result in ran:
        p50, p90, y = result["latency_ms"]["p50"], result["latency_ms"]["p90"], result["image_auroc"]
        marker = MARKERS[devices.index(result["device"]) % len(MARKERS)]
        axes.plot([p50, p90], [y, y], color=color[result["variant"]], lw=2, alpha=0.7, solid_capstyle="butt")
        axes.plot(p90, y, "|", color=color[result["variant"]], ms=9, mew=2)
        axes.plot(p50, y, marker, color=color[result["variant"]], ms=9, mec="white", mew=1)
        points.append((p50, p90, y, result["variant"]))
    lows, highs = [p[0] for p in points], [p[1] for p in points]
    axes.set_xscale("log")
    axes.set_xlim(min(lows) / 1.6, max(highs) * 1.6)
    spread = max(p[2] for p in points) - min(p[2] for p in points)
    margin = max(0.15 * spread, 0.01)
    axes.set_ylim(min(p[2] for p in points) - 1.5 * margin, max(p[2] for p in points) + 1.5 * margin)
    plots.ticks_up_to_one(axes)
    plots.log_ticks(axes)
    axes.set(xlabel="latency of one inference in ms (log scale)", ylabel="image AUROC")
    plots.place_labels(figure, axes, points)
    if len(devices) > 1:
        handles = [Line2D([], [], marker=MARKERS[i % 8], color=GREY, ls="", label=d) for i, d in enumerate(devices)]
        axes.legend(handles=handles, title="device", loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    rows = [(r["variant"], r["device"], r["image_auroc"], *r["latency_ms"].values(), r["how"]["latency"]) for r in ran]
    return Drawn(figure, ("variant", "device", "image_auroc", *PERCENTILES_MS, "how"), rows)


def ablation(runs: list[dict], color: dict) -> Drawn:
    """Image AUROC and AUPRO of every step of compression, a dot per seed, a bar at the mean."""
    steps = ordered(runs[0])
    (aupro,) = resolution.head(["AUPRO"], (one for run in runs for one in run["steps"].values()))
    known = [
        (key, title)
        for key, title in (("image_auroc", "image AUROC"), ("aupro", aupro))
        if all(one[key] is not None for run in runs for one in run["steps"].values())
    ]
    shape = plots.WIDTH, 2.5 * len(known)
    figure, panels = plt.subplots(len(known), 1, figsize=shape, squeeze=False, layout="constrained")
    spread = np.linspace(-0.15, 0.15, len(runs)) if len(runs) > 1 else [0]
    for axes, (key, title) in zip(panels[:, 0], known, strict=True):
        for i, step in enumerate(steps):
            mine = [run["steps"][step] for run in runs]
            values, tint = [one[key] for one in mine], color[mine[0]["variant"]]
            axes.plot([i - 0.3, i + 0.3], [np.mean(values)] * 2, color=tint, lw=2.5, solid_capstyle="butt")
            axes.plot(i + np.asarray(spread), values, "o", color=tint, ms=6, mec="white", ls="")
        axes.set_title(title)
        axes.set_xticks(range(len(steps)), [step.replace(" + ", " +\n") for step in steps])
        axes.tick_params(axis="x", labelsize=9)
        axes.grid(axis="x", visible=False)
        low, high = axes.get_ylim()
        axes.set_ylim(low - max(0, 0.02 - (high - low)) / 2, high + max(0, 0.02 - (high - low)) / 2)
        plots.ticks_up_to_one(axes)
    rows = [
        (run["seed"], step, *(run["steps"][step][key] for key in ("variant", "image_auroc", "aupro")))
        for run in runs
        for step in steps
    ]
    return Drawn(figure, ("seed", "step", "variant", "image_auroc", aupro), rows)


def size(evals: dict, color: dict) -> Drawn:
    """A bar per variant with its size, parameters and MACs written out."""
    figure, axes = plt.subplots(figsize=(plots.WIDTH, 0.5 + 0.52 * len(evals)), layout="constrained")
    sizes = [found["size_bytes"] / 1e6 for found in evals.values()]
    axes.barh(range(len(evals)), sizes, color=[color[name] for name in evals], height=0.62)
    for i, found in enumerate(evals.values()):
        text = formatting.size(found["size_bytes"])
        axes.annotate(text, (sizes[i], i), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    costs = [[formatting.count(found.get(key)) for key in ("params", "macs")] for found in evals.values()]
    names = [f"{name}\n{params} params, {macs} MACs" for name, (params, macs) in zip(evals, costs, strict=True)]
    axes.set_yticks(range(len(evals)), names, fontsize=8.5)
    axes.set_xlim(0, max(sizes) * 1.3)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlabel("model file in MB")
    rows = [(name, *(found.get(key) for key in COST)) for name, found in evals.items()]
    return Drawn(figure, ("variant", *COST), rows)


def per_defect(evals: dict, color: dict) -> Drawn:
    """A line of dots per defect type, one dot per variant, set apart vertically."""
    types = sorted({defect for found in evals.values() for defect in found["per_defect"]})
    shift = np.linspace(-0.3, 0.3, len(evals)) if len(evals) > 1 else [0]
    height = 0.9 + max(0.55, 0.13 * len(evals)) * len(types) + 0.2 * -(-len(evals) // 3)
    figure, axes = plt.subplots(figsize=(plots.WIDTH, height), layout="constrained")
    for i in range(0, len(types), 2):
        axes.axhspan(i - 0.5, i + 0.5, color="#f5f6f9", zorder=0)
    lowest = 1.0
    for (variant, found), dy in zip(evals.items(), shift, strict=True):
        places = [i for i, defect in enumerate(types) if defect in found["per_defect"]]
        values = [found["per_defect"][types[i]] for i in places]
        lowest = min([lowest, *values])
        axes.plot(values, [i + dy for i in places], "o", color=color[variant], ms=7, mec="white", label=variant)
    low = max(-0.02, lowest - max(0.03, 0.1 * (1 - lowest)))
    axes.set_xlim(low, 1 + 0.03 * (1 - low))
    if low < 0.5:
        axes.axvline(0.5, color=GREY, lw=1, ls=":")
        axes.annotate("chance", (0.5, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)
    axes.set_yticks(range(len(types)), types)
    axes.set_ylim(len(types) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("image AUROC against all good pictures")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    rows = [(name, *pair) for name, found in evals.items() for pair in found["per_defect"].items()]
    return Drawn(figure, ("variant", "defect", "image_auroc"), rows)
