"""`python -m experiments speedup VARIANT...`: exported files against EfficientAD-S and each other, interleaved.

One core, one picture of 256 x 256 at a time: every round runs each of them, so that what disturbs the machine disturbs
all. It runs it twice: right after another model, which has put its own data into the caches, and again at once, as on a
device that does nothing else. EfficientAD-S runs in every runtime of experiments/rivals.py; the ratios are to the
fastest.
"""

import tempfile
from pathlib import Path

import numpy as np

from edge.errors import UserError
from edge.inference.detector import load
from edge.processor import int8_instructions
from experiments import interleave, provenance, ratios, rivals
from experiments.efficientad import SIZE
from hardware_runners.runner.remote import machine
from stages.common import atomic, params
from stages.report.formatting import markdown_list, markdown_table

MODELS, OUT = Path("artifacts/models"), Path("reports/speedup.json")


def ours(variants: list[str]) -> dict:
    """A function for each variant that runs its file once; UserError for one of another size."""
    runs = {}
    for variant in variants:
        detector = load(MODELS / variant)
        height, width = detector.info.input.geometry.canvas
        if (height, width) != (SIZE, SIZE):
            raise UserError(f"{variant}: takes {height} x {width} pictures; EfficientAD-S is timed at {SIZE} x {SIZE}")
        runs[variant] = interleave.once(detector)
    return runs


def measure(variants: list[str], rounds: int, folder: Path) -> dict:
    """Latencies in ms (p50, and p10 to p90; of the second call p50) of every variant and of every way to run
    EfficientAD-S, the fastest of these, and how many times faster each of them all is."""
    runs = ours(variants)
    found, absent = rivals.build(folder)
    others = {ratios.rival(name): once for name, once in found.items()}
    runs = others | runs
    times = interleave.timed([run for run in runs.values() for _ in range(2)], rounds).T
    samples = dict(zip(runs, times[::2], strict=True))
    latency = {name: float(np.median(values)) for name, values in samples.items()}
    again = {name: float(np.median(values)) for name, values in zip(runs, times[1::2], strict=True)}
    best = min(others, key=latency.__getitem__)
    return {
        "rounds": rounds,
        "threads": 1,
        "latency_ms": latency,
        "p10_p90_ms": {name: np.percentile(values, [10, 90]).tolist() for name, values in samples.items()},
        "again_ms": again,
        "rivals": list(others),
        "best_rival": best,
        "not_measured": {ratios.rival(name): why for name, why in absent.items()},
        "times_faster_than_best_rival": {name: latency[best] / value for name, value in latency.items()},
        "machine": {"cpu": machine.cpu_model(), "int8": int8_instructions()},
        "versions": rivals.versions(),
    }


def first_teacher(variants: list[str]) -> str | None:
    """The first of `variants` whose role in params.yaml is that of a teacher."""
    known = params.validate(params.read_yaml("params.yaml")).variants
    return next((name for name in variants if name in known and known[name].role == "teacher"), None)


def add_arguments(parser) -> None:
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="exported variants, e.g. teacher-onnx")
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="how often each of them runs (30)")
    parser.add_argument("--output", type=Path, default=OUT, metavar="FILE", help=f"where the result stays ({OUT})")


def run(arguments) -> None:
    """Writes the result with the code that was measured, and prints its table."""
    interleave.check_rounds(arguments.rounds)
    teacher = first_teacher(arguments.variants)
    interleave.one_core()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.variants, arguments.rounds, Path(folder))
    found |= {"teacher": teacher, "code": provenance.current()}
    atomic.write_json(arguments.output, found)
    print(markdown_table((*ratios.HEAD, *ratios.AGAIN), ratios.table_rows(found)))
    print(markdown_list(ratios.notes("", found)))
