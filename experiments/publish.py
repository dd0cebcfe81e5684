"""`python -m experiments publish NAME`: copies the small results of this run to reports/published/NAME, for git.

Each seed of a run leaves its record in NAME/seeds, which the report compares. --seed-only leaves the rest as it is;
--beside is for a run with other settings, whose record goes to NAME/sweep; NAME/pareto.png shows them all.
A record names the commit whose code made it. Results of code that is not committed, or that has changed since they were
made, are refused; with --dirty they are published, and every table marks them.
"""

import json
import re
import shutil
import zlib
from pathlib import Path

from edge.errors import UserError
from experiments import pareto, provenance, records
from stages.common import atomic
from stages.common.yamlfile import read_yaml
from stages.report import plots, training
from stages.report.ablation import PUBLISHED, read_record
from stages.report.summary import read_json

LIMIT = 200_000  # bytes; what git keeps for ever should be small


def publish(name: str, seed_only: bool = False, beside: bool = False, dirty: bool = False) -> Path:
    """Writes the record of this seed and, unless `seed_only` or `beside`, results, flat metrics, training curves,
    fidelity and accuracy of every variant; UserError when they are too big, of unknown code or not what was said."""
    if not re.fullmatch(r"[a-z0-9][\w.-]*", name):
        raise UserError(f"NAME = {name!r}: use small letters, digits, dots, dashes")
    folder, record = PUBLISHED / name, read_json("reports/ablation.json")
    compared = beside or any(folder.glob("sweep/*.json"))
    if compared and not records.has_int8(record):
        raise UserError(f"this run {records.NO_INT8}; give one of params.yaml that step")
    changed = _changed(folder, record, beside) if seed_only or beside else records.DEFAULT
    record["code"] = provenance.of_results(dirty)
    path = f"seeds/{record['seed']}.json"
    if beside:
        what = re.sub(r"[^a-z0-9.]+", "-", changed.lower())[:100]
        path = f"sweep/{what}-{zlib.crc32(changed.encode()):08x}-seed{record['seed']}.json"
    files = {path: record}
    if not (seed_only or beside):
        files |= _whole_run(record)
    if (total := sum(len(json.dumps(value, indent=2)) for value in files.values())) > LIMIT:
        raise UserError(f"the results of {name} take {total} bytes, more than {LIMIT}")
    if not seed_only:
        _remove_replaced(folder, record, beside)
    for file, value in files.items():
        atomic.write_json(folder / file, value)
    if not (seed_only or beside):
        _curves(folder)
    if compared:
        pareto.draw(records.by_change(folder), folder / "pareto.png")
    return folder


def _changed(folder: Path, record: dict, beside: bool) -> str:
    """The settings in which this run differs from the published one; UserError when it is the other kind of run."""
    base = records.base_settings(folder)
    if record["settings"][records.PICTURES] != base[records.PICTURES]:
        raise UserError(f"this run was tested on other pictures than {folder}; use the same split")
    changed = records.label(record["settings"], base)
    if not beside and changed != records.DEFAULT:
        raise UserError(f"this run differs from {folder} ({changed}); publish it with --beside")
    if beside and changed == records.DEFAULT:
        raise UserError(f"this run has the settings of {folder}; publish it with --seed-only")
    if beside:
        records.by_change(folder)  # says what can't be compared before anything is written
    return changed


def _whole_run(record: dict) -> dict:
    """{file: content} of a published result besides the record of its seed."""
    results = read_json("reports/summary.json")
    variants = dict.fromkeys(result["variant"] for result in results)
    return {
        "summary.json": results,
        "metrics.json": read_json("reports/metrics.json"),
        "fidelity.json": read_json("reports/fidelity.json"),
        "accuracy.json": {variant: read_json(f"artifacts/eval/{variant}.json") for variant in variants},
        "run.json": {key: record[key] for key in ("seed", "code")},
    }


def _remove_replaced(folder: Path, record: dict, beside: bool) -> None:
    """Removes the records that this one takes the place of: beside others those of its own settings and seed, named
    before the default changed; as the new default the seeds of other settings and the sweeps that are now seeds."""
    for path in [*folder.glob("seeds/*.json"), *folder.glob("sweep/*.json")]:
        old, kind = read_record(path), path.parent.name
        same = old["settings"] == record["settings"]
        if beside:
            gone = kind == "sweep" and same and old["seed"] == record["seed"]
        else:
            other_pictures = old["settings"][records.PICTURES] != record["settings"][records.PICTURES]
            gone = other_pictures or same != (kind == "seeds")
        if gone:
            path.unlink()


def _curves(folder: Path) -> None:
    """The logged values of every stage that trains as <stage>/<curve>.tsv, and the picture of them."""
    shutil.rmtree(folder / "curves", ignore_errors=True)
    for file in training.files(read_yaml(Path("params.yaml")).get("baselines", {})):
        target = folder / "curves" / file.relative_to(training.CURVES).parts[0] / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    plots.style()
    if drawn := training.curves(folder / "curves", sorted((folder / "curves").glob("*/*.tsv"))):
        plots.save(drawn.figure, folder / "curves.png")


def add_arguments(parser) -> None:
    shown = "README.md or a page of docs/ shows it between <!-- published:NAME --> marks"
    parser.add_argument("name", metavar="NAME", help=f"e.g. mtd; {shown}")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--seed-only", action="store_true", help="another seed of a published run: its record alone")
    kind.add_argument("--beside", action="store_true", help="a run with other settings, to compare with the published")
    parser.add_argument("--dirty", action="store_true", help="although the code is not the committed one; marked so")


def run(arguments) -> None:
    folder = publish(arguments.name, arguments.seed_only, arguments.beside, arguments.dirty)
    print(f"wrote {folder}; now run python -m experiments readme and dvc repro report")
