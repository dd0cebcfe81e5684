"""`python -m stages.report.publish NAME`: copies the small results of this run to reports/published/NAME, for git.

Each seed of a run leaves its record in NAME/seeds, which the report compares. --seed-only leaves the rest as it is;
--beside is for a run with other settings, whose record goes to NAME/sweep; NAME/front.png shows them all.
"""

import argparse
import json
import re
import shutil
import zlib
from pathlib import Path

from edge.errors import UserError
from stages.common import atomic
from stages.common.stage import fail
from stages.report import front, plots, summary, sweep
from stages.report.ablation import PUBLISHED

LIMIT = 200_000  # bytes; what git keeps for ever should be small


def publish(name: str, seed_only: bool = False, beside: bool = False) -> Path:
    """Writes the record of this seed and, unless `seed_only` or `beside`, rows, flat metrics, training curves, fidelity
    and accuracy of every variant; seeds of other settings go. UserError when it is too big or the settings are not what
    was said."""
    if not re.fullmatch(r"[a-z0-9][\w.-]*", name):
        raise UserError(f"NAME = {name!r}: use small letters, digits, dots, dashes")
    table, steps = summary.read_json("reports/summary.json"), summary.read_json("reports/ablation.json")
    variants = dict.fromkeys(row["variant"] for row in table)
    files = {f"seeds/{steps['seed']}.json": steps}
    compared = beside or any((PUBLISHED / name).glob("sweep/*.json"))
    if compared and steps["steps"].get(sweep.INT8, {}).get("image_auroc") is None:
        raise UserError("this run has no int8 variant of the model qat with an AUROC; add one to params.yaml")
    if seed_only or beside:
        base = sweep.base(PUBLISHED / name)
        if steps["settings"][sweep.PICTURES] != base[sweep.PICTURES]:
            raise UserError(f"this run was tested on other pictures than {PUBLISHED / name}; use the same split")
        changed = sweep.label(steps["settings"], base)
        if seed_only and changed != sweep.DEFAULT:
            raise UserError(f"this run differs from {PUBLISHED / name} ({changed}); publish it with --beside")
        if beside and changed == sweep.DEFAULT:
            raise UserError(f"this run has the settings of {PUBLISHED / name}; publish it with --seed-only")
        if beside:
            sweep.groups(PUBLISHED / name)  # says what can't be compared before anything is written
            what = re.sub(r"[^a-z0-9.]+", "-", changed.lower())[:100]
            files = {f"sweep/{what}-{zlib.crc32(changed.encode()):08x}-seed{steps['seed']}.json": steps}
    else:
        files |= {"summary.json": table, "metrics.json": summary.read_json("reports/metrics.json")}
        files["fidelity.json"] = summary.read_json("reports/fidelity.json")
        files["accuracy.json"] = {variant: summary.read_json(f"artifacts/eval/{variant}.json") for variant in variants}
    if (total := sum(len(json.dumps(value, indent=2)) for value in files.values())) > LIMIT:
        raise UserError(f"the results of {name} take {total} bytes, more than {LIMIT}")
    records = [path for kind in ("seeds", "sweep") for path in (PUBLISHED / name).glob(f"{kind}/*.json")]
    for old in [] if seed_only or beside else records:
        settings = summary.read_json(old)["settings"]
        same, others = settings == steps["settings"], settings[sweep.PICTURES] != steps["settings"][sweep.PICTURES]
        if others or same != (old.parent.name == "seeds"):  # seeds of other settings, and what became the default
            old.unlink()
    for old in (PUBLISHED / name).glob("sweep/*.json") if beside else []:  # named before the default changed
        one = summary.read_json(old)
        if one["settings"] == steps["settings"] and one["seed"] == steps["seed"]:
            old.unlink()
    for file, value in files.items():
        atomic.write_json(PUBLISHED / name / file, value)
    if not (seed_only or beside):
        _curves(PUBLISHED / name)
    if compared:
        front.draw(PUBLISHED / name, PUBLISHED / name / "front.png")
    return PUBLISHED / name


def _curves(folder: Path) -> None:
    """The logged values of every stage that trains as <stage>/<curve>.tsv, and the picture of them."""
    shutil.rmtree(folder / "curves", ignore_errors=True)
    for file in sorted(plots.CURVES.glob("*/**/*.tsv")):
        target = folder / "curves" / file.relative_to(plots.CURVES).parts[0] / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    plots.style()
    plots.curves(folder / "curves", folder / "curves.png")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.report.publish", description=__doc__)
    parser.add_argument(
        "name", metavar="NAME", help="e.g. mtd; README.md shows it between <!-- published:NAME --> marks"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--seed-only", action="store_true", help="another seed of a published run: its record alone")
    kind.add_argument("--beside", action="store_true", help="a run with other settings, to compare with the published")
    arguments = parser.parse_args(argv)
    try:
        folder = publish(arguments.name, arguments.seed_only, arguments.beside)
        print(f"wrote {folder}; now run python -m stages.report.readme and dvc repro report")
    except UserError as error:
        fail("publish", str(error))


if __name__ == "__main__":
    main()
