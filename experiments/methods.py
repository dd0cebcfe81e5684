"""`python -m experiments methods NAME VARIANT...`: keeps what the methods of this run are worth, for git.

reports/published/NAME/methods gets a file for each seed, with accuracy and cost of its variants and the code that made
them, to which a run with further variants adds its own. With --rounds N the exported files are also timed in turns on
one core, which latency.json keeps: of the runtimes of a method the table takes the fastest.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import UserError
from edge.inference.detector import load
from edge.inference.runtimes import FORMATS
from edge.processor import int8_instructions
from experiments import interleave, provenance
from hardware_runners.runner.remote import machine
from stages.common import atomic, params
from stages.report.ablation import PUBLISHED, test_index
from stages.report.summary import read_json

MODELS, EVALS, FOLDER, LATENCY = Path("artifacts/models"), Path("artifacts/eval"), "methods", "latency.json"
KEPT = ("image_auroc", "pixel_auroc", "aupro", "pixel_resolution", "params", "macs", "size_bytes", "fidelity", "how")


def entry(found: dict, variant: Any, code: dict | None) -> dict:
    """What is kept of a variant: what it is by params.yaml, its evaluation, and the code that made it."""
    what = {key: getattr(variant, key) for key in ("model", "format", "precision", "role")}
    return what | {key: found.get(key) for key in KEPT} | {"code": code}


def accuracy(names: list[str], known: Any, code: dict | None) -> dict[str, dict]:
    """An entry for each of the variants; UserError for one that params.yaml doesn't have or that isn't evaluated."""
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"{unknown[0]}: no variant of params.yaml; there are {', '.join(known)}")
    return {name: entry(read_json(EVALS / f"{name}.json"), known[name], code) for name in names}


def latency(names: list[str], rounds: int) -> dict:
    """p50, and p10 to p90, in ms of every file: one picture on one thread, each once a round."""
    runs = {name: interleave.once(load(MODELS / name, threads=1)) for name in names}
    samples = interleave.timed(list(runs.values()), rounds).T
    return {
        "rounds": rounds,
        "latency_ms": {name: float(np.median(values)) for name, values in zip(names, samples, strict=True)},
        "p10_p90_ms": {n: np.percentile(v, [10, 90]).tolist() for n, v in zip(names, samples, strict=True)},
        "machine": {"cpu": machine.cpu_model(), "int8": int8_instructions()},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the packages that run a format and are installed here."""
    found = {}
    for name in sorted({library.pip for form in FORMATS.values() for library in form.libraries}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def merged(path: Path, seed: int, judged_on: str, entries: dict[str, dict]) -> dict:
    """The record at `path`, where there is one, with these entries in it; UserError where it is of other test pictures
    than the index of that sha256 names."""
    before = read_json(path) if path.exists() else {"variants": {}}
    if before.get("test_index_sha256", judged_on) != judged_on:
        raise UserError(f"{path}: is of other test pictures than this run; give another NAME")
    return {"seed": seed, "test_index_sha256": judged_on, "variants": before["variants"] | entries}


def check_turns(path: Path, names: list[str]) -> None:
    """UserError where a record of latencies has variants that would lose theirs: all are timed in turns."""
    lost = set(read_json(path)["latency_ms"]) - set(names) if path.exists() else set()
    if lost:
        raise UserError(f"{path}: has times of {', '.join(sorted(lost))} too, and all take turns; name these as well")


def add_arguments(parser) -> None:
    parser.add_argument("name", metavar="NAME", help="e.g. pill; docs show it between <!-- methods:NAME --> marks")
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="evaluated variants, e.g. padim-onnx")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="time each so often, in turns (0)")


def run(arguments) -> None:
    if arguments.rounds:
        interleave.check_rounds(arguments.rounds)
    chosen, folder = params.validate(params.read_yaml("params.yaml")), PUBLISHED / arguments.name
    if not folder.is_dir():
        raise UserError(f"{folder}: not found; publish the run first, with python -m experiments publish")
    if arguments.rounds:
        check_turns(folder / FOLDER / LATENCY, arguments.variants)
    entries = accuracy(arguments.variants, chosen.variants, provenance.current())
    judged_on = test_index({name: read_json(EVALS / f"{name}.json") for name in entries})
    path = folder / FOLDER / f"{chosen.seed}.json"
    atomic.write_json(path, merged(path, chosen.seed, judged_on, entries))
    if arguments.rounds:
        interleave.one_core()
        found = latency(arguments.variants, arguments.rounds) | {"code": provenance.current()}
        atomic.write_json(folder / FOLDER / LATENCY, found)
    print(f"wrote {folder / FOLDER}; now run python -m experiments readme")
