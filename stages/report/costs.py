"""Plots of what a device measured: the time of every inference, and its energy or why there is none."""

import textwrap

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from stages.report import formatting, plots
from stages.report.plots import GREY, Drawn
from stages.report.summary import main_block

RANK = {"measured": 0, "not measured": 2}  # of the panels; all others come between
NO_DEVICE = "not measured (no device in the plan)"
WRAP = 60  # characters of a title
BESIDE = ("axes fraction", "data")


def latency(sampled: list[dict], color: dict) -> Drawn:
    """A histogram of the timed inferences per variant and device, each on its own axis up to its p99."""
    figure, panels = plots.grid(len(sampled), 2.1)
    for axes, bench in zip(panels, sampled, strict=True):
        block = main_block(bench)
        samples, top = np.asarray(block["samples_ms"], float), block["latency_ms"]["p99"]
        axes.hist(samples, bins=30, range=(samples.min(), top), color=color[bench["variant"]], alpha=0.8, lw=0)
        for key, dash in (("p50", "-"), ("p90", "--")):
            axes.axvline(block["latency_ms"][key], color="#2b313b", lw=1.2, ls=dash)
        threads = "" if block["threads"] == 1 else f", {block['threads']} threads"
        axes.set_title(f"{bench['variant']} on {bench['device']}{threads}", fontsize=9.5)
        axes.set_xlabel(f"ms (slowest {formatting.significant(samples.max())})", fontsize=8)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axes.tick_params(labelsize=8)
    blocks = [(b["variant"], b["device"], main_block(b)) for b in sampled]
    rows = [(*name, block["threads"], ms) for *name, block in blocks for ms in block["samples_ms"]]
    return Drawn(figure, ("variant", "device", "threads", "ms"), rows)


def energy(results: list[dict], color: dict) -> Drawn:
    """Energy of one inference; measured and estimated figures never share a panel or an axis, and a panel without any
    says why. results: what is planned for devices, whatever became of it."""
    found = {result["how"]["energy"] for result in results}
    ways = sorted(found, key=lambda how: (RANK.get(formatting.kind(how), 1), how)) or [NO_DEVICE]
    mine = [[result for result in results if result["how"]["energy"] == way] for way in ways]
    counts = [max(1, len(group)) for group in mine]
    figure, panels = plt.subplots(
        len(ways),
        figsize=(plots.WIDTH, 0.4 * sum(counts) + 0.8 * len(ways)),
        squeeze=False,
        height_ratios=counts,
        layout="constrained",
    )
    for axes, way, group in zip(panels[:, 0], ways, mine, strict=True):
        known = formatting.kind(way) != "not measured"
        axes.set_title("\n".join(textwrap.wrap(way, WRAP)), fontsize=9.5)
        axes.set_yticks(range(len(group)), [f"{result['variant']} on {result['device']}" for result in group])
        axes.set_ylim(max(1, len(group)) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        if known:
            bars(axes, group, color, solid=formatting.kind(way) == "measured")
            axes.set_xlabel("mJ per inference")
        else:
            axes.set_facecolor("#f5f6f9")
            axes.grid(visible=False)
            axes.set_xticks([])
            for i in range(max(1, len(group))):
                axes.annotate("not measured", (0.5, i), xycoords=BESIDE, ha="center", va="center", color=GREY)
    rows = [(r["variant"], r["device"], r["energy"]["value_mj"], r["how"]["energy"]) for r in results]
    return Drawn(figure, ("variant", "device", "mj", "how"), rows)


def bars(axes, group: list[dict], color: dict, solid: bool) -> None:
    """A bar for each result with its figure beside it; hatched where it is not solid."""
    values, tints = [result["energy"]["value_mj"] for result in group], [color[result["variant"]] for result in group]
    faces = [tint if solid else (*tint, 0.25) for tint in tints]
    axes.barh(range(len(group)), values, height=0.62, color=faces, edgecolor=tints, hatch=None if solid else "////")
    for i, value in enumerate(values):
        text = formatting.significant(value, " mJ")
        axes.annotate(text, (value, i), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_xlim(0, max(values) * 1.25)
