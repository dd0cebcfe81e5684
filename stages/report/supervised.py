"""Verdicts of supervised detectors at several thresholds: table, curves, confusion matrices, and what explains them.

A variant is one of them where validation chose its threshold among several (`validation.thresholds`).
"""

import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from edge.errors import UserError
from stages.report import plots
from stages.report.formatting import NONE, score
from stages.report.training import CURVES

TITLE = "Supervised: precision and recall by threshold"
HEAD = ("Variant", "Threshold", "Precision", "Recall", "F1", "Found", "Missed", "False alarms", "Good")
HEADINGS = {"supervised": TITLE, "explanation": "What a supervised verdict rests on"}
FIGURES = ("precision", "recall", "f1")
CAPTION = (
    "Precision, recall and F1 of the test pictures by threshold (measured; the dotted line is the threshold that "
    "validation chose), and the confusion matrix at that threshold."
)
EXPLAINED = (
    "Labelled validation defects. Above: the picture, with the outline of its mask. Middle: how much the image's logit "
    "changes with each pixel (gradient saliency). Below: the outline of what lies above Otsu's threshold of it; "
    "where that is next to nothing or most of the picture, of the difference in intensity (the word says which)."
)


def chosen(evals: dict) -> list[str]:
    """The variants whose threshold validation chose among several."""
    return [name for name, found in evals.items() if (found.get("validation") or {}).get("thresholds")]


def tables(evals: dict) -> dict[str, list[dict]]:
    """The rows of verdicts.table over the test pictures, by variant."""
    try:
        return {name: evals[name]["verdicts"] for name in chosen(evals)}
    except KeyError:
        raise UserError("artifacts/eval: no verdicts of a supervised variant; run dvc repro") from None


def section(evals: dict) -> dict:
    """What the templates show: `title`, `head`, `rows` and `notes`; no rows without a supervised variant."""
    found = tables(evals)
    rows = [row_cells(name, row, evals[name]["threshold"]) for name, table in found.items() for row in table]
    notes = [note(name, evals[name]) for name in chosen(evals)]
    return {"title": TITLE, "head": HEAD, "rows": rows, "notes": notes}


def row_cells(name: str, row: dict, threshold: float) -> list[str]:
    """The cells of a row of verdicts.table, below HEAD; `threshold` is the one that validation chose."""
    at = f"{row['threshold']:.2f}" + (" (chosen)" if row["threshold"] == threshold else "")
    return [name, at, *(score(row[key]) for key in FIGURES), *(str(row[key]) for key in ("tp", "fn", "fp", "tn"))]


def note(name: str, found: dict) -> str:
    """How the threshold of a variant was chosen, and how well its map marks the defects."""
    overlap = NONE if found.get("iou") is None else f"{found['iou']:.3f}"
    return (
        f"{name}: threshold {found['threshold']:.2f}, {found['threshold_method']}. Mean IoU of what lies above it with "
        f"the masks of {found.get('masks', 0)} defects: {overlap}."
    )


def draw(variants: dict, evals: dict, folder: Path) -> dict[str, str]:
    """Draws what there is; returns {name: caption} of the figures."""
    found, color = tables(evals), plots.colors(evals)
    if not found:
        return {}
    plots.style()
    figure, axes = plt.subplots(
        len(found), 2, figsize=(7.2, 2.9 * len(found)), squeeze=False, layout="constrained", width_ratios=(2, 1)
    )
    for (left, right), (name, rows) in zip(axes, found.items(), strict=True):
        at = evals[name]["threshold"]
        for key, line in zip(FIGURES, ("--", ":", "-"), strict=True):
            xs, ys = [row["threshold"] for row in rows], [row[key] for row in rows]
            left.plot(xs, ys, line, color=color[name], lw=1.8, label=key.replace("f1", "F1"))
        left.axvline(at, color=plots.GREY, lw=1, ls=":")
        left.set(xlabel="threshold", title=name)
        left.legend(fontsize=8, frameon=False)
        row = min(rows, key=lambda row: abs(row["threshold"] - at))
        confusion(right, row)
    plots.save(figure, folder / "supervised.png")
    out = {"supervised": CAPTION}
    for name in dict.fromkeys(variants[variant].model.rpartition("/")[2] for variant in found):
        drawn = CURVES / f"baseline-{name}" / "explanation.png"
        if drawn.exists() and len(out) == 1:
            shutil.copyfile(drawn, folder / "explanation.png")
            out["explanation"] = EXPLAINED
    return out


def confusion(axes, row: dict) -> None:
    """The confusion matrix of a row: rows what a picture is, columns what was said; shaded by shares of each row."""
    counts = np.array([[row["tn"], row["fp"]], [row["fn"], row["tp"]]])
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1.4)
    for y, x in np.ndindex(2, 2):
        axes.text(x, y, str(counts[y, x]), ha="center", va="center", fontsize=11, color="#2b313b")
    axes.set_xticks([0, 1], ["said good", "said defect"], fontsize=8)
    axes.set_yticks([0, 1], ["good", "defect"], fontsize=8)
    axes.set_title(f"at {row['threshold']:.2f}")
    axes.grid(False)
