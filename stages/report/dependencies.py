"""`python -m stages.report.dependencies [--check]`: lists the results of every variant and plan item in dvc.yaml.

`report` depends on each of them by name. DVC can't make such a list from params, and a folder as dependency is not
enough: in a fresh clone `dvc repro --pull` fetches no folder, and takes what happens to lie there for all of it.
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
LIST = re.compile(rf"^( *){re.escape(BEGIN)}\n.*?^ *{re.escape(END)}\n", re.DOTALL | re.MULTILINE)


def read_plan(variants) -> dict[str, dict]:
    """The items of the plan, {name: {device, variant}}; UserError when one is none or names an unknown variant."""
    plan = params.read_plan()
    for item, entry in plan.items():
        if entry["variant"] not in variants:
            raise UserError(f"{params.PLAN}: {item}: variant {entry['variant']} is not in params.yaml")
    return plan


def fill(text: str, variants, plan, baselines) -> str:
    """The text of dvc.yaml with the curves of all `baselines` and the results of all `variants` and items of the `plan`
    between the two marks."""
    files = [f"reports/curves/baseline-{name}" for name in baselines]
    files += [f"artifacts/eval/{variant}.{end}" for variant in variants for end in ("json", "npz")]
    files += [f"artifacts/bench/{item}.json" for item in plan]
    if not LIST.search(text):
        raise UserError(f"{DVC}: report has no lines '{BEGIN}' and '{END}' among its dependencies; put them back")
    lines = [BEGIN, *(f"- {file}" for file in files), END]
    return LIST.sub(lambda found: "".join(f"{found[1]}{line}\n" for line in lines), text)


def check(variants, baselines) -> None:
    """UserError when dvc.yaml lists other results than `variants`, `baselines` and the plan have, in whatever order."""
    text = read_text(DVC, "restore the file")
    if sorted(fill(text, variants, read_plan(variants), baselines).splitlines()) != sorted(text.splitlines()):
        raise UserError(f"{DVC}: report lists other results than params.yaml and {params.PLAN} have; run {COMMAND}")


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
