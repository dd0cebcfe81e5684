"""Brings the whole graph up to date with the devices side by side, each with its own items one after the other.

DVC runs stages in a row and stops at the first that fails. Here every item of the plan is a `dvc repro -s` of its own,
so that a device that is away stops nobody else: its row says why, the report shows it, and since DVC records no stage
that failed, `dvc status` stays dirty and the next run measures just what is missing."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hardware_runners.runner import devices
from hardware_runners.runner.errors import RunnerError

ENDED = threading.Event()  # by the user
RUNNING: set[subprocess.Popen[str]] = set()
LAST = ("benchmark", "illustrate", "report")  # the stages that are run here one by one


def run(arguments: argparse.Namespace) -> int:
    """0: everything is measured; 75: a device was not available; 1: something is wrong."""
    plan = devices.plan()
    wanted = arguments.devices or sorted({entry["device"] for entry in plan.values()})
    items = {name: [item for item, entry in plan.items() if entry["device"] == name] for name in wanted}
    for name, mine in items.items():
        devices.read(name)
        if not mine:
            raise RunnerError(f"{devices.PLAN}: no item for device {name}")
    graph = devices.read_yaml(Path("dvc.yaml"))
    if not isinstance(graph, dict) or not isinstance(graph.get("stages"), dict):
        raise RunnerError("dvc.yaml: holds no stages; restore the file")
    before = [name for name in graph["stages"] if name not in LAST]
    if before and _dvc("", *before):
        raise RunnerError("dvc repro of what comes before the benchmarks failed; see above")
    with ThreadPoolExecutor(max_workers=max(1, len(items))) as pool:
        try:
            found = [outcome for outcomes in pool.map(_measure, items.values()) for outcome in outcomes]
        except KeyboardInterrupt:  # dvc leaves it to its stage, which ends with dvc
            ENDED.set()
            for process in list(RUNNING):
                process.terminate()
            raise
    for item, outcome in found:
        print(f"{item}: {outcome}", flush=True)
    failed = [item for item, outcome in found if outcome == "failed"]
    if failed:
        raise RunnerError(f"no report: {', '.join(failed)} failed; see above")
    absent = [item for item in plan if not Path(f"artifacts/bench/{item}.json").is_file()]
    if absent:
        print(f"no report yet: not measured are {', '.join(absent)}")
    elif any(_dvc("", "-s", stage) for stage in LAST[1:]):
        raise RunnerError("dvc repro of the report failed; see above")
    return 75 if any(outcome.startswith("unavailable") for _, outcome in found) else 0


def _measure(items: list[str]) -> list[tuple[str, str]]:
    """Runs the benchmarks of one device; (item, ok | failed | unavailable: why)."""
    out = []
    for item in items:
        if not ENDED.is_set():
            out.append((item, _outcome(item, _dvc(f"[{item}] ", "-s", f"benchmark@{item}"))))
    return out


def _outcome(item: str, code: int) -> str:
    if code == 0:
        return "ok"
    try:  # DVC removes the output before it runs a stage, so what is there was written just now
        row = json.loads(Path(f"artifacts/bench/{item}.json").read_text())
    except FileNotFoundError:
        return "failed"
    return f"unavailable: {row['reason']}" if row["status"] == "unavailable" else "failed"


def _dvc(prefix: str, *arguments: str) -> int:
    """Runs dvc repro and passes its lines on; returns its exit code."""
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *arguments]
    if not prefix:
        return subprocess.run(command, check=False).returncode
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        RUNNING.add(process)
        for line in process.stdout or ():
            if line.strip():
                print(f"{prefix}{line}", end="", flush=True)
        RUNNING.discard(process)
    return process.returncode
