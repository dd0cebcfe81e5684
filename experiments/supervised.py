"""`python -m experiments supervised VARIANT...`: keeps what supervised variants of this run are worth, for git.

Accuracy, the table of thresholds with confusion matrices, the settings, and which code made them.
"""

from pathlib import Path

from edge.errors import UserError
from experiments import provenance
from stages.common import atomic, params
from stages.common.dataset import read_index
from stages.report import supervised
from stages.report.formatting import count, markdown_list, markdown_table, score, size
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
HEAD = ("Variant", "AUROC", "F1", "Precision", "Recall", "IoU", "Pixel AUROC", "AUPRO", "Size", "Params", "MACs")
SHOWN = ("image_auroc", "f1", "precision", "recall", "iou", "pixel_auroc", "aupro")


def record(variants: list[str]) -> dict:
    """What is kept; UserError for a variant that isn't there or isn't supervised."""
    settings = params.validate(params.read_yaml("params.yaml"))
    evals = {name: read_json(f"artifacts/eval/{name}.json") for name in variants}
    for name in variants:
        if name not in supervised.chosen(evals):
            raise UserError(f"{name}: is no supervised variant; give one whose detector learned from labelled defects")
    tables = supervised.tables(evals)
    unknown = [name for name in variants if name not in settings.variants]
    if unknown:
        raise UserError(f"{unknown[0]}: no variant of params.yaml; there are {', '.join(settings.variants)}")
    models = sorted({settings.variants[name].model for name in variants})
    learned = {model.rpartition("/")[2]: read_json(f"artifacts/{model}/detector.json") for model in models}
    divided: dict[str, dict[str, int]] = {}
    for folder in ("data/train", "data/test"):
        for item in read_index(folder):
            types = divided.setdefault(item.split, {})
            types[item.defect] = types.get(item.defect, 0) + 1
    return {
        "variants": {name: {key: found.get(key) for key in KEPT} for name, found in evals.items()},
        "thresholds": tables,
        "detectors": learned,
        "settings": {name: without_place(settings.baselines[name].settings) for name in learned},
        "data": {"source": settings.data.source, "grouped": settings.data.group_near_duplicates, "split": divided},
        "input": settings.input.size or f"{settings.input.height} x {settings.input.width}",
        "seed": settings.seed,
        "code": provenance.current(),
    }


def without_place(settings: dict) -> dict:
    """The settings, of a folder of weights its name alone: where it lies is of no use to others."""
    weights = str(settings["weights"])
    return settings | {"weights": Path(weights).name if weights.startswith((".", "/", "~")) else weights}


def markdown(folder: Path) -> str:
    """The tables of `folder`/supervised.json, and how they were made."""
    found = read_json(folder / "supervised.json")
    evals, rows = found["variants"], []
    for name, one in evals.items():
        cost = [size(one["size_bytes"]), count(one["params"]), count(one["macs"])]
        rows.append([name, *(score(one[key]) for key in SHOWN), *cost])
    lines = [
        supervised.row_cells(name, row, evals[name]["threshold"])
        for name, table in found["thresholds"].items()
        for row in table
    ]
    notes = [supervised.note(name, one) for name, one in evals.items()]
    split = found["data"]["split"]
    notes += [
        "Pictures: "
        + "; ".join(f"{name} " + ", ".join(f"{n} {kind}" for kind, n in sorted(split[name].items())) for name in split)
        + "; groups kept whole." * found["data"]["grouped"]
        + ", drawn at random by type." * (not found["data"]["grouped"]),
        "Epoch, probabilities and threshold were chosen on validation pictures; test pictures chose nothing.",
    ]
    for name, one in found["detectors"].items():
        settings = found["settings"][name]
        notes.append(
            f"{name}: {settings['weights']}, {found['input']} px, seed {found['seed']}, epoch {one['epoch']} of "
            f"{settings['epochs']}; {one['defects']} defects, shown as {one['shown']}, beside {one['good']} good "
            f"pictures; alpha {one['alpha']:.2f}."
        )
    for name, one in evals.items():
        if one["fidelity"]:
            exact, kernel = one["fidelity"]["exact"], one["fidelity"]["kernel"]
            notes.append(f"{name}: {exact:.2%} of the int8 outputs equal the simulated network's ({kernel}).")
    head, table = markdown_table(HEAD, rows), markdown_table(supervised.HEAD, lines)
    return f"{head}\n\n{table}\n\n{markdown_list([*notes, provenance.sentence(found)])}"


def add_arguments(parser) -> None:
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="of a supervised detector, e.g. supervised-int8")
    parser.add_argument("--output", type=Path, default=OUT, metavar="FILE", help=f"where the result stays ({OUT})")


def run(arguments) -> None:
    atomic.write_json(arguments.output, record(arguments.variants))
    print(f"wrote {arguments.output}")
