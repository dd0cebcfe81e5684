"""Measures one variant on one device: `python -m stages.benchmark local-student-int8` writes artifacts/bench/.

Exit code 75: the device can't be measured now; the row says so, and DVC, which keeps no output of a stage that fails,
measures it in the next run."""

import sys
from pathlib import Path

from edge.errors import UserError
from edge.inference.modelfile import open_model
from hardware_runners.runner import devices, result, transports
from hardware_runners.runner.errors import Unavailable
from stages.common import atomic, stage

TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h


def run(item: str, params) -> None:
    """Writes the row of the plan's `item`, its device from the inventory, its model from artifacts/models."""
    out = Path("artifacts/bench") / f"{item}.json"
    settings = params.benchmark
    try:
        entry = plan_entry(item)
        device = devices.read(entry["device"])
        info = open_model(Path("artifacts/models") / entry["variant"])
        devices.check_runtime(device, info.format)
        found = transports.measure(device, info.folder, settings.runs, settings.warmup, settings.threads, item)
        row = result.row(device, entry["variant"], info, found)
    except Unavailable as error:
        atomic.write_json(out, result.unavailable(entry["device"], entry["variant"], error))
        stage.fail(f"benchmark@{item}", f"unavailable: {error}", TRY_LATER)
    atomic.write_json(out, row)
    for block in row["blocks"]:
        latency = block["latency_ms"]
        print(f"{item}: {block['threads']} threads, p50 {latency['p50']:.3f} ms, p99 {latency['p99']:.3f} ms")


def plan_entry(item: str) -> dict:
    """The plan's `item`: its device and its variant."""
    plan = devices.plan()
    if item not in plan:
        known = ", ".join(sorted(plan)) or "none: the plan is empty"
        raise UserError(f"{devices.PLAN}: no item {item!r}; choose one of {known}")
    return plan[item]


def main(argv: list[str]) -> None:
    """The entry point: one argument, an item of the plan."""
    if len(argv) != 1:
        stage.fail(
            "benchmark", f"give one item of {devices.PLAN}, e.g. python -m stages.benchmark local-student-int8", 2
        )
    item = stage.item("benchmark", argv[0])
    stage.main(f"benchmark@{item}", lambda params: run(item, params))


if __name__ == "__main__":
    main(sys.argv[1:])
