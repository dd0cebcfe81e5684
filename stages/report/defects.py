"""Types of defects by their nearest examples: table, confusion matrices, a map of the embeddings, pictures side by
side. Nothing where the stage defects did nothing."""

import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from stages.report import plots
from stages.report.formatting import score
from stages.report.summary import read_json

FOLDER = Path("artifacts/defects")
TITLE = "Types of defects"
HEADINGS = {
    "types_confusion": "Types of defects: what each was told to be",
    "types_map": "Types of defects: map of the embeddings",
    "types_examples": "Types of defects: nearest and most confused",
}
HEAD = ("Embedding", "Region", "Accuracy", "Macro-F1", "Own part kept", "Unknown: AUROC", "Refused", "Known refused")
PLACES = {"found": "found by the model", "marked": "marked by hand"}


def result() -> dict | None:
    """What the stage found; None where it was not asked to."""
    found = read_json(FOLDER / "result.json") if (FOLDER / "result.json").exists() else {}
    return found if found.get("variant") else None


def section() -> dict:
    """What the templates show: `title`, `head`, `rows` and `notes`; no rows without a study."""
    found = result()
    return {"title": TITLE, "head": HEAD, "rows": rows(found) if found else [], "notes": notes(found) if found else []}


def rows(found: dict) -> list[list[str]]:
    """A row for each embedding and place, below HEAD."""
    out = []
    for name, places in found["results"].items():
        for place, one in places.items():
            strange = one["open_set"]
            cells = [one["accuracy"], one["macro_f1"], one["own_part_kept"]["accuracy"], strange["auroc"]]
            cells += [strange["refused"], one["known_refused"]]
            out.append([name, PLACES[place], *map(score, cells)])
    return out


def notes(found: dict) -> list[str]:
    """How the figures came about."""
    count = sum(found["judged"].values())
    chosen = (
        f"in {found['folds']} folds by whole parts: pooling, dimensions, neighbours and limit were chosen without the "
        "fold that is judged"
        if found["split"] == "unsupervised"
        else "on test; pooling, dimensions, neighbours and limit were chosen on train and val"
    )
    out = [
        f"Measured on the exported file {found['variant']}: {count} labelled defects of {found['parts']} parts, judged "
        f"{chosen}. No neighbour is of the query's own part; own part kept: only the picture itself is left out.",
        "Unknown: each type in turn without examples; AUROC of the distance against the other types, and which share "
        "of it lies beyond the limit (refused), beside that of known types.",
    ]
    if found["peak_hits"] is not None:
        out.append(
            f"The map's peak lies on the marked defect in {found['peak_hits']:.1%} of the pictures; "
            f"{found['detected']:.1%} of them are above the model's threshold. All are judged here."
        )
    return out


def draw(folder: Path, data: Path) -> dict[str, str]:
    """Draws what there is, and copies what the stage drew; returns {name: caption} of the figures."""
    found = result()
    if not found:
        return {}
    plots.style()
    plots.write(confusion(found), folder / "types_confusion.png", data)
    with np.load(FOLDER / "embedded.npz", allow_pickle=False) as file:
        kept = {key: file[key] for key in file.files}
    plots.write(embedding_map(kept), folder / "types_map.png", data)
    shutil.copyfile(FOLDER / "examples.png", folder / "types_examples.png")
    way = found["catalogue"]
    return {
        "types_confusion": "What labelled defects are (rows) and were told to be (columns), in pictures; the darker, "
        "the larger the share of a row.",
        "types_map": f"The first two principal components of the vectors of {found['variant']} in its catalogue "
        f"(pooling {way['pooling']}, {way['dimensions']} dimensions); a cross was told another type.",
        "types_examples": "Of each type: a defect that was told right with the highest certainty and its nearest "
        "example, and the one most confidently told wrong with the example that it was taken for. Orange: the "
        "region that was compared.",
    }


def confusion(found: dict) -> plots.Drawn:
    """The matrices of the variant, one for each place."""
    places = found["results"][found["variant"]]
    names = sorted(found["types"])
    figure, panels = plots.grid(len(places), 2.9)
    data = []
    for axes, (place, one) in zip(panels, places.items(), strict=True):
        counts = np.array(one["confusion"])
        counts = counts if counts[:, -1].any() else counts[:, :-1]
        axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1.4)
        for y, x in np.ndindex(*counts.shape):
            axes.text(x, y, str(counts[y, x]), ha="center", va="center", fontsize=7, color="#2b313b")
        columns = [*names, "none"][: counts.shape[1]]
        axes.set_xticks(range(len(columns)), columns, fontsize=7, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_title(f"{PLACES[place]}: {one['accuracy']:.3f}", fontsize=9)
        axes.grid(False)
        data += [(place, names[y], columns[x], int(counts[y, x])) for y, x in np.ndindex(*counts.shape) if counts[y, x]]
    return plots.Drawn(figure, ("region", "type", "told", "pictures"), data)


def embedding_map(kept: dict[str, np.ndarray]) -> plots.Drawn:
    """All vectors on their first two principal components."""
    vectors = kept["vector"] - kept["vector"].mean(0)
    axes_ = np.linalg.svd(vectors, full_matrices=False)[2][:2]
    axes_ *= np.sign(axes_[np.arange(len(axes_)), np.abs(axes_).argmax(1)])[:, None]  # or the sign is the library's
    points = vectors @ axes_.T
    names = sorted(set(kept["type"].tolist()))
    right = np.ones(len(points), bool)
    right[kept["judged"]] = kept["told"] == np.array([names.index(kind) for kind in kept["type"][kept["judged"]]])
    figure, axes = plt.subplots(figsize=(plots.WIDTH, 3.8), layout="constrained")
    for name, color in plots.colors(names).items():
        mine = kept["type"] == name
        axes.scatter(*points[mine & right].T, s=14, color=[color], linewidths=0, alpha=0.8, label=name)
        axes.scatter(*points[mine & ~right].T, s=18, color=[color], marker="x", linewidths=1)
    axes.legend(fontsize=8, frameon=False, loc="best")
    axes.set(xlabel="first component", ylabel="second component")
    data = [
        (str(path), str(kind), float(x), float(y))
        for path, kind, (x, y) in zip(kept["path"], kept["type"], points, strict=True)
    ]
    return plots.Drawn(figure, ("picture", "type", "first", "second"), data)
