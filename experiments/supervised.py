"""`python -m experiments supervised VARIANT... [--runs RUN...]`: keeps what supervised variants are worth, for git.

Accuracy, the table of thresholds with confusion matrices, the settings, and which code made them. A RUN is the folder
of a run (default: this one); several differ in their seeds alone.
"""

from collections.abc import Sequence
from pathlib import Path

from edge.errors import UserError
from experiments import provenance
from stages.common import atomic, params
from stages.common.dataset import read_index
from stages.report import supervised
from stages.report.formatting import count, markdown_list, markdown_table, mean_and_deviation, size
from stages.report.summary import read_json

OUT = Path("reports/supervised.json")
KEPT: tuple[str, ...] = ("image_auroc", "f1", "precision", "recall", "threshold", "threshold_method", "iou")
KEPT += (
    "pixel_auroc",
    "aupro",
    "pixel_resolution",
    "masks",
    "images",
    "size_bytes",
    "params",
    "macs",
    "fidelity",
    "runtime",
)
ONE = ("seed", "variants", "thresholds", "detectors")  # what is of one run, not of all
HEAD = ("Variant", "AUROC", "F1", "Precision", "Recall", "IoU", "Pixel AUROC", "AUPRO", "Size", "Params", "MACs")
SHOWN = ("image_auroc", "f1", "precision", "recall", "iou", "pixel_auroc", "aupro")


def record(variants: list[str], folders: Sequence[Path] = (Path(),)) -> dict:
    """What is kept of runs; UserError for a variant that isn't there or isn't supervised, and for runs that differ in
    more than their seeds."""
    runs = [one_run(folder, variants) for folder in folders]
    shared = [{key: value for key, value in run.items() if key not in ONE} for run in runs]
    for folder, other in zip(folders, shared, strict=True):
        if different := [key for key in shared[0] if other[key] != shared[0][key]]:
            raise UserError(f"{folder}: differs from {folders[0]} in {', '.join(different)}; give runs of other seeds")
    seeds = [run["seed"] for run in runs]
    if twice := [folder for i, folder in enumerate(folders) if seeds[i] in seeds[:i]]:
        raise UserError(f"{twice[0]}: its seed is given twice; give one run of each")
    return {"runs": [{key: run[key] for key in ONE} for run in runs], **shared[0], "code": provenance.current()}


def one_run(folder: Path, variants: list[str]) -> dict:
    """What is kept of the run in a folder."""
    settings = params.validate(params.read_yaml(folder / "params.yaml"), str(folder / "params.yaml"))
    if unknown := [name for name in variants if name not in settings.variants]:
        raise UserError(f"{unknown[0]}: no variant of params.yaml; there are {', '.join(settings.variants)}")
    evals = {name: read_json(folder / f"artifacts/eval/{name}.json") for name in variants}
    for name in variants:
        if name not in supervised.chosen(evals):
            raise UserError(f"{name}: is no supervised variant; give one whose detector learned from labelled defects")
    models = sorted({settings.variants[name].model for name in variants})
    learned = {model.rpartition("/")[2]: read_json(folder / f"artifacts/{model}/detector.json") for model in models}
    divided: dict[str, dict[str, int]] = {}
    for part in ("data/train", "data/test"):
        for item in read_index(folder / part):
            types = divided.setdefault(item.split, {})
            types[item.defect] = types.get(item.defect, 0) + 1
    return {
        "seed": settings.seed,
        "variants": {name: {key: found.get(key) for key in KEPT} for name, found in evals.items()},
        "thresholds": supervised.tables(evals),
        "detectors": learned,
        "settings": {name: without_place(settings.baselines[name].settings) for name in learned},
        "data": {"source": settings.data.source, "grouped": settings.data.group_near_duplicates, "split": divided},
        "input": settings.input.size or f"{settings.input.height} x {settings.input.width}",
    }


def without_place(settings: dict) -> dict:
    """The settings, of a folder of weights its name alone: where it lies is of no use to others."""
    weights = str(settings["weights"])
    return settings | {"weights": Path(weights).name if weights.startswith((".", "/", "~")) else weights}


def markdown(folder: Path) -> str:
    """The tables of `folder`/supervised.json, and how they were made."""
    found = read_json(folder / "supervised.json")
    first, runs, rows = found["runs"][0], found["runs"], []
    for name, one in first["variants"].items():
        cost = [size(one["size_bytes"]), count(one["params"]), count(one["macs"])]
        shown = (mean_and_deviation([run["variants"][name][key] for run in runs]) for key in SHOWN)
        rows.append([name, *shown, *cost])
    lines = [
        supervised.row_cells(name, row, first["variants"][name]["threshold"])
        for name, table in first["thresholds"].items()
        for row in table
    ]
    split = found["data"]["split"]
    notes = [
        "Pictures: "
        + "; ".join(f"{name} " + ", ".join(f"{n} {kind}" for kind, n in sorted(split[name].items())) for name in split)
        + "; groups kept whole." * found["data"]["grouped"]
        + ", drawn at random by type." * (not found["data"]["grouped"]),
        "Epoch, probabilities and threshold were chosen on validation pictures; test pictures chose nothing.",
    ]
    if len(runs) > 1:
        seeds = ", ".join(str(run["seed"]) for run in runs)
        notes.append(
            f"Seeds {seeds}: mean and standard deviation. The table of thresholds is that of seed {first['seed']}."
        )
    for name, one in first["detectors"].items():
        settings = found["settings"][name]
        epochs = ", ".join(str(run["detectors"][name]["epoch"]) for run in runs)
        marked = f", {one['marked']} of them with a mask" if one.get("marked") else ""
        notes.append(
            f"{name}: {settings['weights']}, {found['input']} px, epoch {epochs} of {settings['epochs']}; "
            f"{one['defects']} defects{marked}, shown as {one['shown']}, beside {one['good']} good pictures; alpha "
            f"{one['alpha']:.2f}."
        )
    for run in runs:
        label = f"seed {run['seed']}, " * (len(runs) > 1)
        notes += [supervised.note(label + name, one) for name, one in run["variants"].items()]
    for name, one in first["variants"].items():
        if one["fidelity"]:
            exact = min(run["variants"][name]["fidelity"]["exact"] for run in runs)
            notes.append(
                f"{name}: {exact:.2%} of the int8 outputs equal the simulated network's ({one['fidelity']['kernel']})."
            )
    head, table = markdown_table(HEAD, rows), markdown_table(supervised.HEAD, lines)
    return f"{head}\n\n{table}\n\n{markdown_list([*notes, provenance.sentence(found)])}"


def add_arguments(parser) -> None:
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="of a supervised detector, e.g. supervised-int8")
    parser.add_argument("--runs", nargs="+", type=Path, default=[Path()], metavar="RUN", help="their folders (.)")
    parser.add_argument("--output", type=Path, default=OUT, metavar="FILE", help=f"where the result stays ({OUT})")


def run(arguments) -> None:
    atomic.write_json(arguments.output, record(arguments.variants, arguments.runs))
    print(f"wrote {arguments.output}")
