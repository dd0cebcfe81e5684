"""The table of a run on clips, beside a yardstick that learns nothing: the largest optical flow of each frame.

A method that finds no more than the yardstick has learned no more than that the anomalies are fast.
"""

from pathlib import Path

import cv2
import numpy as np

from edge.errors import UserError
from edge.preprocess import read_image, to_grey
from experiments import provenance
from stages.common import atomic, dataset
from stages.common.progress import track
from stages.evaluate import clips
from stages.report.formatting import NONE, markdown_list, markdown_table
from stages.report.summary import read_json

TEST, EVALS, OUT = Path("data/test"), Path("artifacts/eval"), Path("reports/clips.json")
LAG, CELL = 2, 12  # frames back, and side in pixels of a cell whose mean counts: choices
YARDSTICK = f"largest optical flow (Farneback, {LAG} frames, cells of {CELL} px), nothing learned"
HEAD = ("Method", "Frame AUC, micro, raw", "smoothed", "RBDC", "TBDC", "Million MACs a frame")
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


def add_arguments(parser) -> None:
    parser.add_argument("--output", type=Path, default=OUT, help=f"where the table goes (default: {OUT})")
    parser.add_argument("--dirty", action="store_true", help="of code that is not committed, and say so")


def run(arguments) -> None:
    items = sorted(dataset.read_index(TEST), key=lambda item: (item.clip, item.frame))
    if not all(item.clip for item in items):
        raise UserError(f"{TEST}: holds pictures, not clips")
    code = provenance.current()
    if code is not None and not code["clean"] and not arguments.dirty:
        raise UserError("stages or edge has changes that are not committed; commit them (--dirty: mark the record)")
    found = {YARDSTICK: {"frame_auc": clips.frame_auc(clips.by_clip(items, largest_flow(TEST, items)))}}
    for path in sorted(EVALS.glob("*.json")):
        one = read_json(path)
        if "video" in one:
            found[one["variant"]] = {**one["video"], "macs": one["macs"], "fidelity": one["fidelity"]}
    labels = [item.label for item in items]
    frames = {"clips": len({item.clip for item in items}), "frames": len(items), "anomalous": sum(labels)}
    atomic.write_json(arguments.output, {"test": frames, "methods": found, "code": code})
    print(f"{arguments.output}: {', '.join(found)}")


def markdown(folder: Path) -> str:
    """The tables of `folder`/clips.json."""
    record = read_json(folder / "clips.json")
    rows, compared = [], []
    for name, one in record["methods"].items():
        auc = one["frame_auc"]
        cost = f"{one['macs'] / 1e6:.1f}" if one.get("macs") else NONE
        figures = auc["micro"], auc["micro_smoothed"], one.get("rbdc"), one.get("tbdc")
        rows.append([name, *map(_figure, figures), cost])
        others = [auc["comparison"][key] for key in ("micro_min_max", "macro", "macro_padded")]
        compared.append([name, *map(_figure, (auc["micro"], *others))])
    test = record["test"]
    notes = [
        f"{test['clips']} test clips, {test['frames']} frames, {test['anomalous']} of them anomalous.",
        provenance.sentence(record),
    ]
    return (
        f"{markdown_table(HEAD, rows)}\n\nFor comparison with figures of other protocols alone:\n\n"
        f"{markdown_table(COMPARED, compared)}\n\n{markdown_list(notes)}"
    )


def _figure(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"
