"""Measures on this machine: a fresh process per thread count, so that start and memory are that block's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from hardware_runners.errors import RunnerError

ROOT = Path(__file__).resolve().parent.parent
MODULE = "hardware_runners.remote.measure"


def measure(model_folder: str | Path, runs: int, warmup: int, threads: list[int]) -> dict:
    """What `hardware_runners.remote.measure` found, one block per thread count; RunnerError with its last line."""
    results = [_process(model_folder, runs, warmup, count) for count in threads]
    return {**results[0], "blocks": [block for result in results for block in result["blocks"]]}


def _process(model_folder: str | Path, runs: int, warmup: int, threads: int) -> dict:
    command = [sys.executable, "-m", MODULE, str(model_folder)]
    command += ["--runs", str(runs), "--warmup", str(warmup), "--threads", str(threads)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        raise RunnerError(f"device local: {lines[-1].removeprefix('error: ')}")
    return json.loads(done.stdout)
