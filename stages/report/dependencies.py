"""`python -m stages.report.dependencies [--check]`: lists the results of every variant and plan item in dvc.yaml.

`illustrate` and `report` depend on each of theirs by name. DVC can't make such a list from params, and a folder as
dependency is not enough: in a fresh clone `dvc repro --pull` fetches no folder, and takes what happens to lie there for
all of it.
"""

import argparse
import re
from pathlib import Path

from edge.errors import UserError
from stages.common import atomic, params
from stages.common.stage import fail
from stages.common.textfile import read_text

DVC = Path("dvc.yaml")
COMMAND = "python -m stages.report.dependencies"
BEGIN, END = f"# results: written by {COMMAND}", "# end of results"
LIST = r"^(  {stage}:\n(?:(?:   .*)?\n)*?)( *){begin}\n(?:   .*\n)*? *{end}\n"  # within the lines of a stage


def read_plan(variants) -> dict[str, dict]:
    """The items of the plan, {name: {device, variant}}; UserError when one is none or names an unknown variant."""
    plan = params.read_plan()
    for item, entry in plan.items():
        if entry["variant"] not in variants:
            raise UserError(f"{params.PLAN}: {item}: variant {entry['variant']} is not in params.yaml")
    return plan


def fill(text: str, variants, plan, baselines) -> str:
    """The text of dvc.yaml with the results of all `variants` and items of the `plan` between the two marks of both
    stages, and for the report the curves of all `baselines`; None leaves the report as it is."""
    benches = [f"artifacts/bench/{item}.json" for item in plan]
    figures = [f"artifacts/eval/{variant}.json" for variant in variants]
    with_maps = [f"artifacts/eval/{variant}.{end}" for variant in variants for end in ("json", "npz")]
    lists = {"illustrate": with_maps + benches}
    if baselines is not None:
        lists["report"] = [f"reports/curves/baseline-{name}" for name in baselines] + figures + benches
    for stage, files in lists.items():
        pattern = LIST.format(stage=stage, begin=re.escape(BEGIN), end=re.escape(END))
        found = re.search(pattern, text, re.MULTILINE)
        if not found:
            raise UserError(f"{DVC}: {stage} has no lines '{BEGIN}' and '{END}' among its dependencies; put them back")
        lines = "".join(f"{found[2]}{line}\n" for line in [BEGIN, *(f"- {file}" for file in files), END])
        text = text[: found.start()] + found[1] + lines + text[found.end() :]
    return text


def check(variants, baselines=None) -> None:
    """UserError when dvc.yaml lists other results than `variants`, `baselines` (None: of illustrate alone, which reads
    none of them) and the plan have, in whatever order."""
    text = read_text(DVC, "restore the file")
    if sorted(fill(text, variants, read_plan(variants), baselines).splitlines()) != sorted(text.splitlines()):
        raise UserError(f"{DVC}: lists other results than params.yaml and {params.PLAN} have; run {COMMAND}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 when a result is missing or gone"
    )
    only_check = parser.parse_args(argv).check
    try:
        found = params.validate(params.read_yaml("params.yaml"))
        if not DVC.exists():
            raise UserError(f"{DVC}: not found; run from the folder that holds it")
        if only_check:
            return check(found.variants, found.baselines)
        text = fill(read_text(DVC, "restore the file"), found.variants, read_plan(found.variants), found.baselines)
        with atomic.file(DVC) as temporary:
            temporary.write_text(text)
    except UserError as error:
        fail("dependencies", str(error))


if __name__ == "__main__":
    main()
