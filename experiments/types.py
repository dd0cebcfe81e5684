"""`python -m experiments types [RUN...]`: how well runs told types of defects, of several seeds, for git.

A RUN is the folder of a run in which the stage defects was asked for (default: this one).
"""

from pathlib import Path

import numpy as np

from edge.errors import UserError
from experiments import provenance
from stages.common import atomic, params
from stages.report import defects
from stages.report.defects import PLACES
from stages.report.formatting import NONE, base_names, markdown_list, markdown_table, score
from stages.report.summary import read_json

OUT = Path("reports/defects.json")
HEAD = ("Embedding", "Region", "Accuracy", "Macro-F1", "Accuracy, own part kept", "Unknown: AUROC", "Refused")
MOST_CONFUSED = 3  # pairs of types that are named


def record(folders: list[Path]) -> dict:
    """What is kept; UserError for a run without types, and for runs that differ in more than their seeds."""
    runs = []
    for folder in folders:
        settings = params.validate(params.read_yaml(folder / "params.yaml"), str(folder / "params.yaml"))
        found = read_json(folder / "artifacts/defects/result.json")
        if not found.get("variant"):
            raise UserError(f"{folder}: told no types; set defects.variant")
        (weights,), teacher = base_names(settings.student.init), " and ".join(base_names(settings.teacher.backbone))
        sides = settings.input.model_dump(include={"size", "height", "width"})
        about: dict = {"source": settings.data.source, "input": sides}
        about |= {"student": {**settings.student.model_dump(), "init": weights}, "teacher": teacher}
        about |= {"epochs": settings.distill.epochs, "model": settings.variants[found["variant"]].model}
        runs.append({"seed": settings.seed, "draws": settings.defects.seed, "about": about, **found})
    runs.sort(key=lambda run: (run["seed"], run["draws"]))
    kinds = [(run["about"], run["variant"], run["types"], run["folds"]) for run in runs]
    if any(kind != kinds[0] for kind in kinds) or len({(run["seed"], run["draws"]) for run in runs}) < len(runs):
        raise UserError(f"{', '.join(map(str, folders))}: must be runs that differ in their seeds alone")
    return {"runs": runs, "code": provenance.current()}


def over_seeds(values: list) -> str:
    """The mean, and the range where there are several."""
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    span = f" ({min(known):.3f} to {max(known):.3f})" if len(known) > 1 else ""
    return f"{np.mean(known):.3f}{span}"


def markdown(folder: Path) -> str:
    """The tables of `folder`/defects.json, and how they were made."""
    found = read_json(folder / "defects.json")
    runs, first = found["runs"], found["runs"][0]
    rows, curves, each = [], [], []
    for name, places in first["results"].items():
        for place in places:
            results = [run["results"][name][place] for run in runs]
            cells = [[one["accuracy"] for one in results], [one["macro_f1"] for one in results]]
            cells += [[one["own_part_kept"]["accuracy"] for one in results]]
            cells += [[one["open_set"][key] for one in results] for key in ("auroc", "refused")]
            rows.append([name, PLACES[place], *map(over_seeds, cells)])
            if name != first["variant"]:
                continue
            lines = [[one["curve"][at]["accuracy"] for one in results] for at in range(len(results[0]["curve"]))]
            spread = [np.mean([one["curve"][at]["accuracy_std"] for one in results]) for at in range(len(lines))]
            text = [f"{np.mean(line):.3f} ± {std:.3f}" for line, std in zip(lines, spread, strict=True)]
            curves.append([PLACES[place], *text])
            f1 = [score(np.mean([one["f1"].get(kind, 0.0) for one in results])) for kind in sorted(first["types"])]
            each.append([PLACES[place], *f1])
    counts = [str(row["examples"]) for row in next(iter(first["results"][first["variant"]].values()))["curve"]]
    kinds = [f"{kind} ({number})" for kind, number in sorted(first["types"].items())]
    tables = [
        markdown_table(HEAD, rows),
        f"Accuracy with so many examples of each type:\n\n{markdown_table(('Region', *counts), curves)}",
        f"F1 of each type (pictures):\n\n{markdown_table(('Region', *kinds), each)}",
    ]
    return "\n\n".join([*tables, markdown_list([*notes(runs), provenance.sentence(found)])])


def notes(runs: list[dict]) -> list[str]:
    """What was judged, and what was taken for what."""
    first = runs[0]
    about, sides = first["about"], first["about"]["input"]
    student, side = about["student"], sides["size"] or f"{sides['height']} x {sides['width']}"
    seeds = ", ".join(f"{run['seed']} / {run['draws']}" for run in runs)
    out = [
        f"{first['variant']} ({about['model']}, {first['model']['format']}, {first['model']['size_bytes'] / 1e3:.0f} "
        f"kB), {side} px, {student['init']} at width {student['width']:g}, {about['epochs']} epochs; runs (seed of the "
        f"model / of folds and draws): {seeds}.",
        *defects.notes(first)[:2],
    ]
    hits = [run["peak_hits"] for run in runs]
    if hits[0] is not None:
        above = over_seeds([run["detected"] for run in runs])
        out.append(
            f"Share of the pictures whose map has its peak on the marked defect: {over_seeds(hits)}; whose score is "
            f"above the model's threshold: {above}. All are judged."
        )
    names = sorted(first["types"])
    for place, text in PLACES.items():
        if place in first["results"][first["variant"]]:
            pairs = np.sum([run["results"][first["variant"]][place]["confusion"] for run in runs], 0)[:, : len(names)]
            pairs = pairs - np.diag(np.diag(pairs))
            order = np.argsort(-pairs, axis=None, kind="stable")[:MOST_CONFUSED]
            of = [(names[i // len(names)], names[i % len(names)], pairs.flat[i] / len(runs)) for i in order]
            said = [f"{kind} for {other} {number:.3g}" for kind, other, number in of]
            out.append(f"Most taken for another type, {text}, in pictures a run: {', '.join(said)}.")
    return out


def add_arguments(parser) -> None:
    parser.add_argument("runs", nargs="*", type=Path, default=[Path()], metavar="RUN", help="its folder (default: .)")
    parser.add_argument("--output", type=Path, default=OUT, metavar="FILE", help=f"where the result stays ({OUT})")
    parser.add_argument("--dirty", action="store_true", help="of code that is not committed, and say so")


def run(arguments) -> None:
    code = provenance.current()
    if not arguments.dirty and not (code or {}).get("clean"):
        raise UserError("stages or edge has changes that are not committed; commit them (--dirty: mark the record)")
    atomic.write_json(arguments.output, record(arguments.runs))
    print(f"wrote {arguments.output}")
