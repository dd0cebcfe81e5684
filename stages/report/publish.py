"""`python -m stages.report.publish NAME`: copies the small results of this run to reports/published/NAME, for git."""

import argparse
import re
from pathlib import Path

from stages.common import atomic
from stages.common.errors import UserError
from stages.common.stage import fail
from stages.report import summary
from stages.report.readme import PUBLISHED

LIMIT = 200_000  # bytes; what git keeps for ever should be small


def publish(name: str) -> Path:
    """Writes the rows, the flat metrics and the accuracy of every variant; UserError when they are too big."""
    if not re.fullmatch(r"[a-z0-9][\w.-]*", name):
        raise UserError(f"NAME = {name!r}: use letters, digits, dots, dashes")
    table = summary.read_json("reports/summary.json")
    variants = dict.fromkeys(row["variant"] for row in table)
    files = {"summary.json": table, "metrics.json": summary.read_json("reports/metrics.json")}
    files["accuracy.json"] = {variant: summary.read_json(f"artifacts/eval/{variant}.json") for variant in variants}
    with atomic.directory(PUBLISHED / name) as folder:
        for file, value in files.items():
            atomic.write_json(folder / file, value)
        if (total := sum(path.stat().st_size for path in folder.iterdir())) > LIMIT:
            raise UserError(f"the results of {name} take {total} bytes, more than {LIMIT}")
    return PUBLISHED / name


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.report.publish", description=__doc__)
    parser.add_argument(
        "name", metavar="NAME", help="e.g. mtd; README.md shows it between <!-- published:NAME --> marks"
    )
    try:
        print(f"wrote {publish(parser.parse_args(argv).name)}; now run python -m stages.report.readme")
    except UserError as error:
        fail("publish", str(error))


if __name__ == "__main__":
    main()
