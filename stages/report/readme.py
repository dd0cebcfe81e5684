"""`python -m stages.report.readme [--check]`: the tables of reports/published/ between the markers of README.md."""

import argparse
import re
from pathlib import Path

from edge.errors import UserError
from stages.common import atomic
from stages.common.stage import fail
from stages.report import ablation, ratios, summary, sweep
from stages.report.ablation import PUBLISHED

README = Path("README.md")
BLOCK = re.compile(r"(<!-- (published|ablation|sweep|speedup):([\w.-]+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def render(text: str, folder: Path = PUBLISHED) -> str:
    """`text` with every marked block filled from `folder`/<name>; UserError when one has no partner."""
    published = {path.parent.name for path in folder.glob("*/summary.json")}
    marked = {match[3] for match in BLOCK.finditer(text) if match[2] == "published"}
    if len(re.findall(r"<!-- (?:published|ablation|sweep|speedup):", text)) != len(BLOCK.findall(text)):
        raise UserError(f"{README}: a mark like <!-- published:NAME --> (ablation, sweep, speedup) is never closed")
    if missing := sorted(published - marked):
        raise UserError(
            f"{README}: no <!-- published:{missing[0]} --> ... <!-- /published --> for {folder}/{missing[0]}"
        )
    swept = {path.parent.parent.name for path in folder.glob("*/sweep/*.json")}
    if missing := sorted(swept - {match[3] for match in BLOCK.finditer(text) if match[2] == "sweep"}):
        raise UserError(f"{README}: no <!-- sweep:{missing[0]} --> ... <!-- /sweep --> for {folder}/{missing[0]}/sweep")
    blocks = {"published": result, "ablation": steps, "sweep": sweep.markdown, "speedup": ratios.markdown}
    return BLOCK.sub(lambda match: f"{match[1]}{blocks[match[2]](folder / match[3])}\n{match[4]}", text)


def result(folder: Path) -> str:
    """The table of one published result and how its figures came about."""
    table = summary.read_json(folder / "summary.json")
    notes = [f"Accuracy measured on the exported files. {summary.latency_note(table)}", *summary.reasons(table)]
    others = {row["variant"]: row["how"]["accuracy"] for row in table if row["how"]["accuracy"] != "measured"}
    notes += [f"Accuracy of {variant}: {how}" for variant, how in others.items()]
    return summary.compact_table(table) + "\n\n" + "\n".join(f"- {note}" for note in notes)


def steps(folder: Path) -> str:
    """The ablation over all published seeds, in their order."""
    runs = sorted((summary.read_json(path) for path in folder.glob("seeds/*.json")), key=lambda run: run["seed"])
    kinds = [(run["settings"], run["steps"].keys()) for run in runs]
    if not runs or any(kind != kinds[0] for kind in kinds):
        raise UserError(f"{folder}/seeds: needs records of equal settings and variants; remove those of other runs")
    return ablation.markdown(runs)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.report.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when README.md would change")
    check = parser.parse_args(argv).check
    try:
        if not README.exists():
            raise UserError(f"{README}: not found; run from the folder that holds it")
        old = README.read_text()
        new = render(old)
        if check and old != new:
            raise UserError(f"{README} differs from {PUBLISHED}; run python -m stages.report.readme")
    except UserError as error:
        fail("readme", str(error))
    if old != new:
        with atomic.file(README) as temporary:
            temporary.write_text(new)


if __name__ == "__main__":
    main()
