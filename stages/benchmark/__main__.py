"""Measures one variant on one device: `python -m stages.benchmark local-student-int8` writes artifacts/bench/."""

import sys
from pathlib import Path

from edge.modelfile import ModelError, open_model
from hardware_runners import result, transports
from hardware_runners.errors import RunnerError
from stages.common import atomic, stage
from stages.common.errors import UserError
from stages.common.params import read_yaml

PLAN = Path("hardware_runners/plan.yaml")
INVENTORY = Path("hardware_runners/inventory")


def run(item: str, params) -> None:
    """Writes the row of the plan's `item`, its device from the inventory, its model from artifacts/models."""
    entry = plan_entry(item)
    device = read_device(entry["device"])
    settings = params.benchmark
    try:
        info = open_model(Path("artifacts/models") / entry["variant"])
        measured = transports.measure(device, info.folder, settings.runs, settings.warmup, list(settings.threads))
        row = result.row(device, entry["variant"], info, measured)
    except (ModelError, RunnerError) as error:
        raise UserError(str(error)) from None
    atomic.write_json(Path("artifacts/bench") / f"{item}.json", row)
    for block in row["blocks"]:
        latency = block["latency_ms"]
        print(f"{item}: {block['threads']} threads, p50 {latency['p50']:.3f} ms, p99 {latency['p99']:.3f} ms")


def plan_entry(item: str) -> dict:
    """The plan's `item`: its device and its variant."""
    plan = (read_yaml(PLAN) or {}).get("plan") or {}
    if item not in plan:
        raise UserError(
            f"{PLAN}: no item {item!r}; choose one of {', '.join(sorted(plan)) or 'none: the plan is empty'}"
        )
    entry = plan[item]
    if not isinstance(entry, dict) or set(entry) != {"device", "variant"}:
        raise UserError(f"{PLAN}: plan.{item} = {entry!r}: must have the keys device and variant and no others")
    return entry


def read_device(name: str) -> dict:
    """The inventory file of a device."""
    path = INVENTORY / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in INVENTORY.glob("*.yaml")))
        raise UserError(f"{path}: no such device; choose one of {known}")
    device = read_yaml(path)
    if not isinstance(device, dict) or device.get("name") != name:
        raise UserError(f"{path}: name: must be {name!r}, like the file")
    return device


def main(argv: list[str]) -> None:
    """The entry point: one argument, an item of the plan."""
    if len(argv) != 1:
        stage.fail("benchmark", f"give one item of {PLAN}, e.g. python -m stages.benchmark local-student-int8", 2)
    stage.main(f"benchmark@{argv[0]}", lambda params: run(argv[0], params))


if __name__ == "__main__":
    main(sys.argv[1:])
