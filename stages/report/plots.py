"""The plots of the report: deterministic PNGs in which every variant keeps its colour."""

import csv
import shutil
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.text import Text

from edge.errors import UserError
from stages.report import formatting, resolution
from stages.report.ablation import ordered
from stages.report.summary import main_block

MARKERS = "osD^vPX*"
GREY = "#5a6270"
CURVES = Path("reports/curves")
DEFECTS = CURVES / "distill/defects.png"


def style() -> None:
    """One look for every plot, fonts that ship with matplotlib."""
    sns.set_theme(
        style="whitegrid",
        rc={
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "axes.edgecolor": "#c9ced6",
            "grid.color": "#e6e9ee",
            "axes.labelcolor": GREY,
            "xtick.color": GREY,
            "ytick.color": "#2b313b",
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
        },
    )


def colors(variants) -> dict:
    """The colour of each variant, from a colour-blind palette."""
    names = list(variants)
    return dict(zip(names, sns.color_palette("colorblind" if len(names) <= 10 else "husl", len(names)), strict=True))


def save(figure, path: Path) -> None:
    """Writes the PNG without a software version in it, so that equal figures are equal bytes."""
    figure.savefig(path, dpi=150, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    plt.close(figure)


def draw(evals: dict, results: list[dict], benches: dict, folder: Path) -> list[tuple[str, str]]:
    """Draws all plots that have data; returns (name, caption) of each."""
    style()
    color = colors(evals)
    out = []
    ran = [result for result in results if result["status"] == "ok"]
    timed = [result for result in ran if result["how"]["latency"] != "emulated"]  # an emulator's time is no latency
    if any(result["image_auroc"] is not None for result in timed):
        accuracy_latency(timed, color, folder / "accuracy_latency.png")
        out.append(
            ("accuracy_latency", f"Image AUROC (measured) against latency ({_kinds(timed)}): p50, whisker to p90.")
        )
    size(evals, color, folder / "size.png")
    out.append(("size", "Size of each model file (measured), parameters and multiply-accumulates counted in it."))
    if any(found["per_defect"] for found in evals.values()):
        per_defect(evals, color, folder / "per_defect.png")
        out.append(("per_defect", "Image AUROC of each defect type against all good pictures (measured)."))
    sampled = [b for b in benches.values() if b["status"] == "ok" and b.get("how") != "emulated"]
    sampled = [b for b in sampled if main_block(b).get("samples_ms")]
    if sampled:
        latency(sampled, color, folder / "latency.png")
        out.append(
            (
                "latency",
                f"All timed inferences up to p99 ({_kinds(timed)}); line p50, dashes p90. Each panel has its own axis.",
            )
        )
    if any(result["energy"]["value_mj"] is not None for result in ran):
        energy(ran, color, folder / "energy.png")
        out.append(("energy", "Energy of one inference; one panel for each way the figures came about."))
    if curves(CURVES, folder / "curves.png"):
        out.append(("curves", "Training curves (measured while training)."))
    if not DEFECTS.exists():
        raise UserError(f"{DEFECTS}: not found; run dvc repro distill")
    shutil.copyfile(DEFECTS, folder / "defects.png")
    out.append(("defects", "Synthetic defects that the student was trained with; below, the outlines of their masks."))
    return out


def _kinds(ran: list[dict]) -> str:
    return " or ".join(sorted({result["how"]["latency"] for result in ran}))


def accuracy_latency(ran: list[dict], color: dict, path: Path) -> None:
    """Image AUROC over p50 latency on a log axis, a marker shape per device, every point labelled."""
    ran = [result for result in ran if result["image_auroc"] is not None]
    devices = list(dict.fromkeys(result["device"] for result in ran))
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
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
    ticks_up_to_one(axes)
    log_ticks(axes)
    axes.set(xlabel="latency of one inference in ms (log scale)", ylabel="image AUROC")
    place_labels(figure, axes, points)
    if len(devices) > 1:
        handles = [Line2D([], [], marker=MARKERS[i % 8], color=GREY, ls="", label=d) for i, d in enumerate(devices)]
        axes.legend(handles=handles, title="device", loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    save(figure, path)


def ablation(runs: list[dict], color: dict, path: Path) -> str:
    """Image AUROC and AUPRO of every step of compression, a dot per seed, a bar at the mean; returns the caption."""
    style()
    steps = ordered(runs[0])
    (aupro,) = resolution.head(["AUPRO"], (one for run in runs for one in run["steps"].values()))
    known = [
        (key, title)
        for key, title in (("image_auroc", "image AUROC"), ("aupro", aupro))
        if all(one[key] is not None for run in runs for one in run["steps"].values())
    ]
    figure, panels = plt.subplots(1, len(known), figsize=(4.2 * len(known), 3.2), squeeze=False, layout="constrained")
    spread = np.linspace(-0.15, 0.15, len(runs)) if len(runs) > 1 else [0]
    for axes, (key, title) in zip(panels[0], known, strict=True):
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
        ticks_up_to_one(axes)
    save(figure, path)
    seeds = f"a dot for each of {len(runs)} seeds, the bar is their mean" if len(runs) > 1 else "one seed"
    return f"Accuracy of the exported file after each step of compression (measured), {seeds}."


def ticks_up_to_one(axes) -> None:
    """No y tick above 1, which no AUROC reaches; the room above is for labels."""
    limits = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if limits[0] <= tick <= min(limits[1], 1 + 1e-9)])
    axes.set_ylim(limits)


def log_ticks(axes) -> None:
    """Plain numbers at 1, 2 and 5 of each decade of the x axis."""
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def place_labels(figure, axes, points) -> None:
    """Puts a name beside each point at the nearest place that covers no point, whisker or other name."""
    figure.canvas.draw()
    renderer, frame = figure.canvas.get_renderer(), axes.get_window_extent()
    taken = []
    for p50, p90, y, _ in points:
        (x0, y0), (x1, _) = axes.transData.transform([(p50, y), (p90, y)])
        taken.append((x0 - 8, y0 - 8, x1 + 6, y0 + 8))
    steps = [8, 22, 36, 50, 64, 80]
    for p50, _, y, name in sorted(points, key=lambda p: (-p[2], p[0])):
        places = [(dx, sign * dy) for dy in steps for dx in (0, -30, 30, -60, 60) for sign in (1, -1)]
        for dx, dy in places:
            label = axes.annotate(
                name,
                (p50, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha="center",
                va="bottom" if dy > 0 else "top",
                fontsize=9,
                color="#2b313b",
                arrowprops={"arrowstyle": "-", "color": "#aab1bd", "lw": 0.8} if abs(dy) > 8 or dx else None,
            )
            label.update_positions(renderer)
            box = Text.get_window_extent(label, renderer).padded(1)
            free = all(box.x1 < a or c < box.x0 or box.y1 < b or d < box.y0 for a, b, c, d in taken)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if (free and inside) or (dx, dy) == places[-1]:
                taken.append(box.extents)
                break
            label.remove()


def size(evals: dict, color: dict, path: Path) -> None:
    """A bar per variant with its size, parameters and MACs written out."""
    figure, axes = plt.subplots(figsize=(7.2, 0.5 + 0.5 * len(evals)))
    sizes = [found["size_bytes"] / 1e6 for found in evals.values()]
    axes.barh(list(evals), sizes, color=[color[name] for name in evals], height=0.62)
    for i, found in enumerate(evals.values()):
        text = f"{formatting.size(found['size_bytes'])}  ·  {formatting.count(found.get('params'))} params"
        text += f"  ·  {formatting.count(found.get('macs'))} MACs"
        axes.annotate(text, (sizes[i], i), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_xlim(0, max(sizes) * 1.9)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlabel("model file in MB")
    save(figure, path)


def per_defect(evals: dict, color: dict, path: Path) -> None:
    """A line of dots per defect type, one dot per variant, set apart vertically."""
    types = sorted({defect for found in evals.values() for defect in found["per_defect"]})
    shift = np.linspace(-0.3, 0.3, len(evals)) if len(evals) > 1 else [0]
    figure, axes = plt.subplots(figsize=(7.2, 0.9 + max(0.55, 0.13 * len(evals)) * len(types)))
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
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    save(figure, path)


def latency(sampled: list[dict], color: dict, path: Path) -> None:
    """A histogram of the timed inferences per variant and device, each on its own axis up to its p99."""
    figure, panels = grid(len(sampled), 2.1)
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
    save(figure, path)


def grid(count: int, height: float):
    """A figure of up to three panels in a row; the panels that are needed."""
    columns = min(3, count)
    rows = -(-count // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(3.1 * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axes in panels.flat[count:]:
        axes.set_visible(False)
    return figure, panels.flat[:count]


def energy(ran: list[dict], color: dict, path: Path) -> None:
    """Energy of one inference; measured and estimated figures never share a panel or an axis."""
    known = [result for result in ran if result["energy"]["value_mj"] is not None]
    ways = sorted(
        {result["how"]["energy"] for result in known}, key=lambda how: (formatting.kind(how) != "measured", how)
    )
    counts = [sum(result["how"]["energy"] == way for result in known) for way in ways]
    height = 0.5 * sum(counts) + 0.9 * len(ways)
    figure, panels = plt.subplots(
        len(ways), figsize=(7.2, height), squeeze=False, height_ratios=counts, layout="constrained"
    )
    for axes, way in zip(panels[:, 0], ways, strict=True):
        mine = [result for result in known if result["how"]["energy"] == way]
        values = [result["energy"]["value_mj"] for result in mine]
        hatch = None if formatting.kind(way) == "measured" else "////"
        tints = [color[result["variant"]] for result in mine]
        faces = [tint if hatch is None else (*tint, 0.25) for tint in tints]
        axes.barh(range(len(mine)), values, height=0.62, color=faces, edgecolor=tints, hatch=hatch)
        for i, value in enumerate(values):
            text = formatting.significant(value, " mJ")
            axes.annotate(text, (value, i), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_title(way)
        axes.set_yticks(range(len(mine)), [f"{result['variant']} on {result['device']}" for result in mine])
        axes.set_ylim(len(mine) - 0.5, -0.5)
        axes.set_xlim(0, max(values) * 1.25)
        axes.grid(axis="y", visible=False)
    panels[-1, 0].set_xlabel("mJ per inference")
    save(figure, path)


def curves(source: Path, path: Path) -> bool:
    """One panel per TSV file of `source`/<stage>; False when there is none."""
    found = []
    for file in sorted(source.glob("*/**/*.tsv")):
        with open(file, newline="") as stream:
            lines = [line for line in csv.DictReader(stream, delimiter="\t") if line.get("step")]
        name = next((key for key in lines[0] if key not in ("step", "timestamp")), None) if lines else None
        if name:
            title = f"{file.relative_to(source).parts[0]}: {name}"
            found.append((title, [float(line["step"]) for line in lines], [float(line[name]) for line in lines]))
    if not found:
        return False
    figure, panels = grid(len(found), 2.3)
    for axes, (title, steps, values) in zip(panels, found, strict=True):
        axes.plot(steps, values, color="#3b6ea8", lw=1.6, marker="o" if len(steps) < 3 else None, ms=4)
        axes.set_title(title, fontsize=9.5)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
    save(figure, path)
    return True
