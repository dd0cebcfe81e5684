"""What the shape of a model's input costs and is worth: the same pictures squeezed, letterboxed and in tiles."""

from pathlib import Path

from edge.errors import UserError
from experiments import provenance
from stages.report.formatting import NONE, count, markdown_list, markdown_table, score
from stages.report.summary import read_json

HEAD = ("Condition", "Input", "Tiles", "AUROC", "AUPRO (full)", "MACs")
CHOSEN = "chosen"
OTHERS = {  # what was tried instead
    "maximum": "the maximum of overlapping tiles instead of their blend",
    "repeated": "the border repeated in padding instead of the picture mirrored",
}


def markdown(folder: Path) -> str:
    """The tables of `folder`/shape.json, one for each set of pictures, and what was tried instead."""
    path = folder / "shape.json"
    if not path.exists():
        raise UserError(f"{path}: no measurement; restore it from Git")
    found = read_json(path)
    parts = [f"{one['caption']}:\n\n{markdown_table(HEAD, _rows(one['runs']))}" for one in found["sets"]]
    notes = [*found["protocol"], *_others(found["sets"]), provenance.sentence(found)]
    return "\n\n".join([*parts, markdown_list(notes)])


def _rows(runs: list[dict]) -> list[list[str]]:
    rows = []
    for run in (run for run in runs if CHOSEN in run):
        spec, tiles = run["input"], run["input"]["tiles"]
        grid = NONE
        if tiles["rows"] * tiles["columns"] > 1:
            grid = f"{tiles['rows']} x {tiles['columns']}, overlap {tiles['overlap']}"
        figures = run[CHOSEN]
        accuracy = score(figures["image_auroc"]), score(figures["aupro"])
        rows.append([run["name"], f"{spec['height']} x {spec['width']}", grid, *accuracy, count(figures["macs"])])
    return rows


def _others(sets: list[dict]) -> list[str]:
    """A sentence for each thing that was tried with one of the runs instead of what is done."""
    out = []
    for key, what in OTHERS.items():
        tried = [(one["name"], run) for one in sets for run in one["runs"] if key in run]
        parts = []
        for name, run in tried:
            otherwise = f"else {_pair(run[CHOSEN])}" if CHOSEN in run else "the other was not run"
            parts.append(f"{_pair(run[key])} ({name}, {run['name']}; {otherwise})")
        out += [f"With {what}, AUROC and AUPRO are {'; '.join(parts)}."] if parts else []
    return out


def _pair(figures: dict) -> str:
    return f"{score(figures['image_auroc'])} and {score(figures['aupro'])}"
