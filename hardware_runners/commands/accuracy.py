"""The accuracy of a variant on a device itself, on a part of the test pictures: kernels differ between processors.

No stage of the graph: only `evaluate` and `report` read test pictures there. Compares with the scores that `evaluate`
wrote, picture by picture, and keeps the result in artifacts/accuracy, which neither git nor DVC tracks."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from edge.inference import scoring
from hardware_runners.runner import devices, transports
from hardware_runners.runner.errors import RunnerError

TEST = Path("data/test")
OUT = Path("artifacts/accuracy")


def run(arguments: argparse.Namespace) -> int:
    """Prints and writes how the device's scores differ from those here; 1 when a verdict differs."""
    device, variant = devices.read(arguments.name), arguments.variant
    try:
        here = np.load(f"artifacts/eval/{variant}.npz")
    except FileNotFoundError:
        raise RunnerError(f"artifacts/eval/{variant}.npz: not found; run dvc repro evaluate@{variant}") from None
    chosen = spread(here["label"], arguments.images)
    names = [str(name) for name in here["path"][chosen]]
    files = {name: (TEST / name).read_bytes() for name in names}
    model, kernels = Path("artifacts/models") / variant, arguments.kernels
    found = transports.score(device, model, files, f"accuracy of {variant}", kernels)
    there = np.array([found["scores"][name] for name in names])
    result = compare(here["label"][chosen], here["score"][chosen].astype(float), there, found["threshold"])
    about = {"device": device.name, "variant": variant, "runtime": found["runtime"]}
    result = {**about, **({"kernels": kernels} if kernels else {}), **result}
    print(json.dumps(result, indent=2))
    OUT.mkdir(parents=True, exist_ok=True)
    name = "-".join([device.name, variant, *([kernels] if kernels else [])])
    temporary = OUT / f".{name}.json.tmp"
    temporary.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    os.replace(temporary, OUT / f"{name}.json")
    return 1 if result["verdicts_that_differ"] else 0


def spread(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of about `count` pictures, as many good as defect ones, evenly spread over each kind."""
    out = []
    for label in (0, 1):
        kind = np.flatnonzero(labels == label)
        out.append(kind[np.unique(np.linspace(0, len(kind) - 1, min(len(kind), -(-count // 2))).astype(int))])
    return np.concatenate(out)


def compare(labels: np.ndarray, here: np.ndarray, there: np.ndarray, threshold: float) -> dict[str, Any]:
    """AUROC on both sides, the largest difference of a score, and how many verdicts differ."""
    return {
        "images": len(labels),
        "image_auroc_here": scoring.auroc(labels, here),
        "image_auroc_there": scoring.auroc(labels, there),
        "largest_difference": float(np.abs(here - there).max()),
        "threshold": threshold,
        "verdicts_that_differ": int(((here > threshold) != (there > threshold)).sum()),
    }
