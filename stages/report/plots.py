"""What all plots share: one look, a colour for every variant, PNG and SVG files that are equal bytes for equal figures,
and places for ticks and labels."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.text import Text

MARKERS = "osD^vPX*"
GREY = "#5a6270"
WIDTH = 5.0  # inches of every plot, in which text of 9 pt can still be read on a phone
COLUMNS = 2  # of panels side by side


@dataclass
class Drawn:
    """A plot and the data that it shows, a row of which has the columns of `head`."""

    figure: Any
    head: tuple[str, ...]
    rows: list[tuple]


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
            "svg.hashsalt": "edge",  # of the names in the file, which are random without
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


def write(drawn: Drawn, png: Path, folder: Path) -> None:
    """Writes the plot as `png`, and into `folder` as SVG beside its data as CSV."""
    about = {"Date": None, "Creator": None}
    drawn.figure.savefig(folder / f"{png.stem}.svg", bbox_inches="tight", facecolor="white", metadata=about)
    save(drawn.figure, png)
    write_csv(folder / f"{png.stem}.csv", drawn.head, drawn.rows)


def write_csv(path: Path, head: tuple[str, ...], rows: list[tuple]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


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


def place_labels(figure, axes, points, lines=()) -> None:
    """Puts a name beside each point (x, end of its whisker, y, name) at the nearest place that covers no point,
    whisker, other name or one of the upright and level `lines` (left, low, right, high)."""
    figure.canvas.draw()
    renderer, frame = figure.canvas.get_renderer(), axes.get_window_extent()
    taken = []
    for p50, p90, y, _ in points:
        (x0, y0), (x1, _) = axes.transData.transform([(p50, y), (p90, y)])
        taken.append((x0 - 8, y0 - 8, x1 + 6, y0 + 8))
    for left, low, right, high in lines:
        (x0, y0), (x1, y1) = axes.transData.transform([(left, low), (right, high)])
        taken.append((x0 - 3, y0 - 3, x1 + 3, y1 + 3))
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


def grid(count: int, height: float):
    """A figure of up to COLUMNS panels in a row; the panels that are needed."""
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(WIDTH / COLUMNS * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axes in panels.flat[count:]:
        axes.set_visible(False)
    return figure, panels.flat[:count]
