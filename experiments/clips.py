"""`python -m experiments clips [RUN...]`: the table of runs on the same test clips, beside a yardstick that learns
nothing: the largest optical flow of each frame.

A RUN is the folder of a run (default: this one). Runs that differ in their seeds alone share a row: settings that
accuracy depends on are compared as in the report. A method that finds no more than the yardstick has learned no more
than that the anomalies are fast.
"""

import json
from pathlib import Path

import cv2
import numpy as np

from edge.errors import UserError
from edge.preprocess import read_image, to_grey
from experiments import provenance
from stages.common import atomic, dataset, params
from stages.common.progress import track
from stages.evaluate import clips
from stages.report import ablation
from stages.report.formatting import NONE, markdown_list, markdown_table, mean_and_deviation
from stages.report.summary import read_json

TEST, EVALS, OUT = Path("data/test"), Path("artifacts/eval"), Path("reports/clips.json")
LAG, CELL = 2, 12  # frames back, and side in pixels of a cell whose mean counts: choices
YARDSTICK = f"largest optical flow (Farneback, {LAG} frames, cells of {CELL} px), nothing learned"
HEAD = ("Method", "Seeds", "Frame AUC, micro, raw", "smoothed", "RBDC", "TBDC", "Million MACs a frame")
COMPARED = ("Method", "Micro, raw", "+ min-max of each clip", "Macro", "Macro, padded")


def largest_flow(folder: Path, items: list[dataset.Item]) -> np.ndarray:
    """The largest mean magnitude in a cell [N], of the frames of clips in order; 0 as long as there is none before."""
    scores: list[float] = []
    before: list[np.ndarray] = []
    for i, item in enumerate(track(items, "optical flow")):
        if not i or item.clip != items[i - 1].clip:
            before = []
        before = [*before, to_grey(read_image(folder / item.path))][-LAG - 1 :]
        scores.append(_cells(*before[:: len(before) - 1]) if len(before) > 1 else 0.0)
    return np.array(scores)


def _cells(first: np.ndarray, last: np.ndarray) -> float:
    flow = cv2.calcOpticalFlowFarneback(first, last, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # OpenCV's example's settings
    return float(cv2.blur(np.linalg.norm(flow, axis=2), (CELL, CELL)).max())


def items_of(folder: Path) -> list[dataset.Item]:
    """The test frames of a run in the order of their clips; UserError where they are pictures."""
    items = sorted(dataset.read_index(folder / TEST), key=lambda item: (item.clip, item.frame))
    if not all(item.clip for item in items):
        raise UserError(f"{folder / TEST}: holds pictures, not clips")
    return items


def record(folders: list[Path]) -> dict:
    """What is kept of runs; UserError where they were not judged on the same frames."""
    items = items_of(folders[0])
    truth = [(item.clip, item.frame, item.label, item.sha256) for item in items]
    runs: list[dict] = []
    for folder in folders:
        if [(item.clip, item.frame, item.label, item.sha256) for item in items_of(folder)] != truth:
            raise UserError(f"{folder}: has other test clips than {folders[0]}; give runs of the same data")
        settings = params.validate(params.read_yaml(folder / "params.yaml"), str(folder / "params.yaml"))
        evals = {name: read_json(folder / EVALS / f"{name}.json") for name in settings.variants}
        if ablation.test_index(evals) != dataset.sha256(folder / TEST / "index.csv"):
            raise UserError(f"{folder}: was judged on other test clips than it has; run dvc repro there")
        sample = {
            "canvas": settings.input.geometry.canvas,
            "frames": settings.input.frames,
            "step": settings.input.step,
        }
        methods = {
            name: {**one["video"], "macs": one["macs"], "fidelity": one["fidelity"]} for name, one in evals.items()
        }
        found = {"seed": settings.seed, "input": sample, "settings": ablation.settings(settings, evals)}
        if any(run["seed"] == settings.seed and run["settings"] == found["settings"] for run in runs):
            raise UserError(f"{folder}: seed {settings.seed} of these settings is given twice")
        runs.append(found | {"methods": methods})
    frames = {
        "clips": len({item.clip for item in items}),
        "frames": len(items),
        "anomalous": sum(i.label for i in items),
    }
    flow = clips.frame_auc(clips.by_clip(items, largest_flow(folders[0] / TEST, items)))
    return {"test": frames, "yardstick": {"frame_auc": flow}, "runs": runs, "code": provenance.current()}


def add_arguments(parser) -> None:
    parser.add_argument("runs", nargs="*", type=Path, default=[Path()], metavar="RUN", help="its folder (default: .)")
    parser.add_argument("--output", type=Path, default=OUT, help=f"where the table goes (default: {OUT})")
    parser.add_argument("--dirty", action="store_true", help="of code that is not committed, and say so")


def run(arguments) -> None:
    code = provenance.current()
    if code is not None and not code["clean"] and not arguments.dirty:
        raise UserError("stages or edge has changes that are not committed; commit them (--dirty: mark the record)")
    found = record(arguments.runs)
    atomic.write_json(arguments.output, found)
    print(f"{arguments.output}: {', '.join(name for name, *_ in rows(found))}")


def rows(found: dict) -> list[tuple[str, str, list[dict]]]:
    """The methods of a record: name, seeds, and what each run says of it."""
    groups: dict[tuple[str, str], list[dict]] = {}
    titles: dict[tuple[str, str], str] = {}
    for one in found["runs"]:
        for name, method in one["methods"].items():
            key = name, json.dumps([one["input"], one["settings"]], sort_keys=True)
            groups.setdefault(key, []).append(method)
            titles[key] = f"{name}, {seen(**one['input'])}"
    out = [(titles[key], str(len(methods)), methods) for key, methods in groups.items()]
    return [*out, (YARDSTICK, NONE, [found["yardstick"]])]


def seen(canvas: list[int], frames: int, step: int) -> str:
    """What a sample is, in words."""
    high, wide = canvas
    apart = "" if step == 1 else f", {step} apart"
    return f"{high if high == wide else f'{high} x {wide}'} px, frames: {frames}{apart}"


def markdown(folder: Path) -> str:
    """The tables of `folder`/clips.json."""
    found = read_json(folder / "clips.json")
    table, compared = [], []
    for name, seeds, methods in rows(found):
        aucs = [one["frame_auc"] for one in methods]
        figures = [[auc["micro"] for auc in aucs], [auc["micro_smoothed"] for auc in aucs]]
        figures += [[one.get(key) for one in methods] for key in ("rbdc", "tbdc")]
        cost = f"{methods[0]['macs'] / 1e6:.1f}" if methods[0].get("macs") else NONE
        table.append([name, seeds, *map(mean_and_deviation, figures), cost])
        others = [[auc["comparison"][key] for auc in aucs] for key in ("micro_min_max", "macro", "macro_padded")]
        compared.append([name, *map(mean_and_deviation, (figures[0], *others))])
    test = found["test"]
    notes = [
        f"{test['clips']} test clips, {test['frames']} frames, {test['anomalous']} of them anomalous.",
        "Measured on the exported files. Several seeds: mean and standard deviation.",
        provenance.sentence(found),
    ]
    return (
        f"{markdown_table(HEAD, table)}\n\nFor comparison with figures of other protocols alone:\n\n"
        f"{markdown_table(COMPARED, compared)}\n\n{markdown_list(notes)}"
    )
