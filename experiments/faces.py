"""How well the guard of `edge` hides faces: the tables of what tests/face_table.py measured."""

from pathlib import Path

from edge.errors import UserError
from experiments import provenance
from stages.report.formatting import markdown_list, markdown_table
from stages.report.summary import read_json

BEFORE, NOW = "one look", "guard"
MODES = ("shown", "fill", "blur", "pixelate")


def markdown(folder: Path) -> str:
    """The tables of `folder`/faces.json: faces that stay visible, what is hidden in vain, who is told, the time."""
    path = folder / "faces.json"
    if not path.exists():
        raise UserError(f"{path}: no measurement; tests/face_table.py writes one")
    found = read_json(path)
    parts = [f"{caption}\n\n{table(found)}" for caption, table in TABLES.items()]
    return "\n\n".join([*parts, markdown_list([provenance.sentence(found)])])


def _missed(found: dict) -> str:
    """Faces by condition; a total of pictures and one of video."""
    rows = []
    for kind in ("pictures", "video"):
        conditions = found[kind]
        rows += [[name, *_figures(row)] for name, row in conditions.items()]
        total = {key: sum(row[key] for row in conditions.values()) for key in ("faces", BEFORE, NOW)}
        rows.append([f"**all {kind}**", *_figures(total)])
    return markdown_table(("Condition", "Faces", "Missed by one look", "Missed"), rows)


def _figures(row: dict) -> list[int]:
    return [row["faces"], row[BEFORE], row[NOW]]


def _needless(found: dict) -> str:
    rows = [
        [name, row["pictures"], *(f"{row[g]['pictures']} ({100 * row[g]['share']:.1f} %)" for g in (BEFORE, NOW))]
        for name, row in found["without faces"].items()
    ]
    return markdown_table(("Condition", "Pictures or frames", "Hidden by one look", "Hidden"), rows)


def _identified(found: dict) -> str:
    rows = [[f"{name} variations", *(row[mode] for mode in MODES)] for name, row in found["identified"].items()]
    return markdown_table(("Condition", "Not hidden", *(f"`{mode}`" for mode in MODES[1:])), rows)


def _milliseconds(found: dict) -> str:
    columns = list(next(iter(found["ms"].values())))
    rows = [[size, *(f"{row[column]:.0f}" for column in columns)] for size, row in found["ms"].items()]
    return markdown_table(("Condition", *columns), rows)


TABLES = {
    "Faces that stay visible:": _missed,
    "Pictures and frames without a face in which something is hidden, and the share of all their area:": _needless,
    "Faces told right among five known ones, of 100 (chance: 20):": _identified,
    "CPU time of a frame in ms, on one core of an x86 machine:": _milliseconds,
}
