"""`python -m experiments readme [--check]`: the tables of reports/published in README.md and docs/*.md.

A table stands between marks: <!-- published:NAME --> ... <!-- /published -->, and so with ablation (what each step of
compression costs), sweep (runs with other settings) and every other kind of BLOCKS.
"""

import re
from pathlib import Path

from edge.errors import UserError
from experiments import (
    bank_table,
    clip_trials,
    clips,
    criterion,
    detector,
    faces,
    kernels,
    layers,
    method_table,
    provenance,
    ratios,
    scale_table,
    shape,
    stores,
    supervised,
    sweep_table,
    throughput_table,
    types,
)
from stages.common import atomic
from stages.report import ablation, resolution, tables
from stages.report.ablation import PUBLISHED
from stages.report.formatting import markdown_list, markdown_table
from stages.report.summary import read_json

README, DOCS = Path("README.md"), Path("docs")


def published(folder: Path) -> str:
    """The table of one published result and how its figures came about."""
    results = read_json(folder / "summary.json")
    made = read_json(folder / "run.json") if (folder / "run.json").exists() else {}
    notes = [f"Accuracy measured on the exported files. {tables.latency_note(results)}", *resolution.note(results)]
    notes += tables.energy_notes(results)
    others = {one["variant"]: one["how"]["accuracy"] for one in results if one["how"]["accuracy"] != "measured"}
    notes += [f"Accuracy of {variant}: {how}" for variant, how in others.items()]
    notes.append((f"Seed {made['seed']}. " if made else "") + provenance.sentence(made))
    return f"{tables.compact(results)}\n\n{markdown_list(notes)}"


def steps(folder: Path) -> str:
    """The ablation over all published seeds, in their order."""
    runs = sorted((ablation.read_record(path) for path in folder.glob("seeds/*.json")), key=lambda run: run["seed"])
    kinds = [(run["settings"], run["steps"].keys()) for run in runs]
    if not runs or any(kind != kinds[0] for kind in kinds):
        raise UserError(f"{folder}/seeds: needs records of equal settings and variants; remove those of other runs")
    notes = [*ablation.protocol(runs), provenance.by_seed(runs)]
    return f"{markdown_table(ablation.head(runs), ablation.table_rows(runs))}\n\n{markdown_list(notes)}"


BLOCKS = {
    "published": published,
    "ablation": steps,
    "sweep": sweep_table.markdown,
    "speedup": ratios.markdown,
    "profile": layers.markdown,
    "faces": faces.markdown,
    "criterion": criterion.markdown,
    "detector": detector.markdown,
    "kernels": kernels.markdown,
    "shape": shape.markdown,
    "banks": bank_table.markdown,
    "methods": method_table.markdown,
    "supervised": supervised.markdown,
    "clips": clips.markdown,
    "clip_trials": clip_trials.markdown,
    "throughput": throughput_table.markdown,
    "stores": stores.markdown,
    "types": types.markdown,
    "scale": scale_table.markdown,
}
OPEN = re.compile(rf"<!-- ({'|'.join(BLOCKS)}):([\w.-]+) -->\n")
BLOCK = re.compile(rf"({OPEN.pattern}).*?(<!-- /\2 -->)", re.DOTALL)


def render(pages: dict[Path, str], folder: Path = PUBLISHED) -> dict[Path, str]:
    """The pages with every marked block filled from `folder`/NAME; UserError when a mark is never closed or a result is
    shown on no page."""
    shown = set()
    for path, text in pages.items():
        found = [(match[2], match[3]) for match in BLOCK.finditer(text)]
        if found != OPEN.findall(text):
            raise UserError(f"{path}: a mark like <!-- published:NAME --> ({', '.join(BLOCKS)}) is never closed")
        shown |= set(found)
    wanted = {("published", path.parent.name) for path in folder.glob("*/summary.json")}
    wanted |= {("sweep", path.parent.parent.name) for path in folder.glob("*/sweep/*.json")}
    for kind, name in sorted(wanted - shown):
        raise UserError(f"{README} and {DOCS}/: no <!-- {kind}:{name} --> ... <!-- /{kind} --> for {folder}/{name}")

    def fill(match) -> str:
        return f"{match[1]}{BLOCKS[match[2]](folder / match[3])}\n{match[4]}"

    return {path: BLOCK.sub(fill, text) for path, text in pages.items()}


def add_arguments(parser) -> None:
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a page would change")


def run(arguments) -> None:
    if not README.exists():
        raise UserError(f"{README}: not found; run from the folder that holds it")
    pages = {path: path.read_text() for path in [README, *sorted(DOCS.glob("*.md"))]}
    changed = {path: text for path, text in render(pages).items() if text != pages[path]}
    if arguments.check and changed:
        names = ", ".join(map(str, changed))
        raise UserError(f"{names}: not what {PUBLISHED} says; run python -m experiments readme")
    for path, text in changed.items():
        with atomic.file(path) as temporary:
            temporary.write_text(text)
