"""`python -m experiments detector yolox_nano.onnx FOLDER --calibrate ... --test ... --output record.json`: int8.

Makes a model folder with a published YOLOX detector as an int8 TFLite file (all integer), calibrated on some pictures
and videos, and compares it with the float file on others: which of its detections are found, which are false, how well
boxes agree, and the processor time of both.
"""

import os
import platform
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from edge.app.source import Source
from edge.arrays import Image
from edge.errors import UserError
from edge.preprocess import read_image
from edge.watch.adopt import adopt
from edge.watch.models import TaskModel, open_task
from edge.watch.objects import Yolox
from edge.watch.tracker import Detection, overlaps
from experiments import provenance
from stages.common import atomic
from stages.report.formatting import markdown_list, markdown_table
from stages.report.summary import read_json

SCORE = 0.5  # from which a detection of the float file must be found
OVERLAP = 0.5  # the IoU from which two boxes are the same object
PICTURES = {".jpg", ".jpeg", ".png", ".bmp"}
ROUNDS = 30  # timed frames of each model, in turn


def frames(what: str) -> Iterator[Image]:
    """The frames of "FILE" or "FILE:FIRST:LAST:STEP" (shares of a video, and every so many frames); RGB."""
    name, *parts = what.split(":")
    path = Path(name)
    if not path.is_file():
        raise UserError(f"{name}: no such file; give FILE or FILE:FROM:TO:STEP, such as street.avi:0:0.5:20")
    if path.suffix.lower() in PICTURES:
        yield read_image(path)
        return
    try:
        low, high, step = float(parts[0]), float(parts[1]), int(parts[2])
        if len(parts) != 3 or not 0 <= low < high <= 1 or step < 1:
            raise ValueError
    except (ValueError, IndexError):
        raise UserError(f"{what}: a video needs FILE:FROM:TO:STEP, such as street.avi:0:0.5:20") from None
    never = threading.Event()
    total = sum(1 for _ in Source(path).frames(never))
    for index, _, frame in Source(path).frames(never):
        if low * total <= index < high * total and index % step == 0:
            yield frame


def same(wanted: list[Detection], found: list[Detection]) -> list[tuple[int, int, float]]:
    """Pairs (wanted, found, IoU) of one class, the best ones first and each box once."""
    if not wanted or not found:
        return []
    iou = overlaps(np.array([d.box for d in wanted]), np.array([d.box for d in found]))
    iou *= np.array([[a.label == b.label for b in found] for a in wanted])
    pairs: list[tuple[int, int, float]] = []
    for at in np.argsort(-iou, axis=None):
        i, j = divmod(int(at), len(found))
        if iou[i, j] < OVERLAP:
            break
        if all(i != a and j != b for a, b, _ in pairs):
            pairs.append((i, j, float(iou[i, j])))
    return pairs


class Tally:
    """Counts by class: wanted (float, at SCORE), found (int8, at the folder's own score), strict (int8, at
    SCORE too), int8 at SCORE, false (of these, where the float file has nothing at the folder's score)."""

    def __init__(self, least: float):
        self.least, self.frames = least, 0
        self.counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(KEYS, 0))
        self.ious: list[float] = []

    def add(self, exact: list[Detection], int8: list[Detection]) -> None:
        self.frames += 1
        wanted, strict = ([d for d in all if d.score >= SCORE] for all in (exact, int8))
        possible, usual = ([d for d in all if d.score >= self.least] for all in (exact, int8))
        for detection in wanted:
            self.counts[detection.label]["wanted"] += 1
        for i, _, iou in same(wanted, usual):
            self.counts[wanted[i].label]["found"] += 1
            self.ious.append(iou)
        for i, _, _ in same(wanted, strict):
            self.counts[wanted[i].label]["strict"] += 1
        right = {j for j, _, _ in same(strict, possible)}
        for j, detection in enumerate(strict):
            self.counts[detection.label]["int8"] += 1
            self.counts[detection.label]["false"] += j not in right

    def record(self) -> dict:
        classes = {label: dict(counts) for label, counts in sorted(self.counts.items())}
        total = {key: sum(counts[key] for counts in classes.values()) for key in KEYS}
        iou = round(float(np.mean(self.ious)), 4) if self.ious else None
        return {"frames": self.frames, "all": total, "classes": classes, "mean_iou": iou}


KEYS = ("wanted", "found", "strict", "int8", "false")


def times(models: dict[str, Yolox], image: Image) -> dict[str, float]:
    """Milliseconds of processor time of a frame with each model, in turn: others on the machine count less than by the
    clock."""
    took: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, model in models.items():
            start = time.process_time()
            model.model.run(image)
            took[name].append(1000 * (time.process_time() - start))
    return {name: round(float(np.median(values)), 2) for name, values in took.items()}


def measure(exact: Path, int8: Path, tests: list[str]) -> dict:
    """What the int8 folder gives against the float folder on each of the tests."""
    models = {name: Yolox(TaskModel(open_task(path, "detection"))) for name, path in (("float", exact), ("int8", int8))}
    least = models["float"].model.info.score
    found = {}
    for test in tests:
        name, tally = Path(test.split(":")[0]).name, Tally(least)
        for image in frames(test):
            tally.add(models["float"](image), models["int8"](image))
        found[name + test.removeprefix(test.split(":")[0])] = tally.record()
    return {"tests": found, "cpu_ms": times(models, image), "score": SCORE, "least": least, "overlap": OVERLAP}


def pictures(model: TaskModel, sources: list[str]) -> Iterator[np.ndarray]:
    """Frames as the network takes them, but [1, H, W, 3] float32, which is the layout of TFLite."""
    for source in sources:
        for image in frames(source):
            tensor = model.prepare(image)[0]
            yield np.ascontiguousarray(tensor.transpose(0, 2, 3, 1) if model.info.input.layout == "nchw" else tensor)


def markdown(folder: Path) -> str:
    """The table of `folder`/detector.json."""
    path = folder / "detector.json"
    if not path.exists():
        raise UserError(f"{path}: no record; make one by python -m experiments detector --output {path}")
    record = read_json(path)
    rows = []
    for name, test in record["tests"].items():
        classes = sorted(test["classes"].items(), key=lambda item: -item[1]["wanted"])
        for label, counts in [*classes, ("**all**", test["all"])]:
            wanted = counts["wanted"]
            share = [f"{100 * counts[key] / wanted:.1f} %" if wanted else "-" for key in ("found", "strict")]
            last = label == "**all**"
            rows.append([name, label, wanted, *share, counts["false"], f"{test['mean_iou']:.3f}" if last else ""])
    head = ("Frames", "Class", f"Float, from {record['score']:g}", f"Found, from {record['least']:g}",
            f"Found, from {record['score']:g}", "False", "Mean IoU")  # fmt: skip
    ms, size = record["cpu_ms"], record["bytes"]
    calibrated = record["calibrated"]
    notes = [
        f"Processor time of a frame on one core ({record['machine']}): float ONNX {ms['float']:.1f} ms, int8 TFLite "
        f"{ms['int8']:.1f} ms. File: {size['float'] / 1e6:.2f} and {size['int8'] / 1e6:.2f} MB.",
        f"Calibrated on {calibrated['pictures']} pictures: {', '.join(calibrated['sources'])}.",
        "False: of int8 at the higher score, where the float file has no box of the class even at the lower one.",
        provenance.sentence(record),
    ]
    return f"{markdown_table(head, rows)}\n\n{markdown_list(notes)}"


def add_arguments(parser) -> None:
    parser.add_argument("file", help="a published YOLOX detector with COCO's classes, .onnx")
    parser.add_argument("folder", help="the model folder to make; must not exist yet")
    parser.add_argument("--calibrate", nargs="+", required=True, metavar="FILE[:FROM:TO:STEP]", help="pictures, videos")
    parser.add_argument("--test", nargs="+", required=True, metavar="FILE[:FROM:TO:STEP]", help="other ones")
    parser.add_argument("--output", help="where the record goes; must not exist yet")


def run(arguments) -> None:
    from experiments.detector_int8 import quantize  # torch, which the pages that `markdown` fills need not have

    file, folder = Path(arguments.file), Path(arguments.folder)
    output = Path(arguments.output) if arguments.output else None
    for path in (folder, output):
        if path is not None and os.path.lexists(path):
            raise UserError(f"{path}: exists; choose a name that is free")
    if file.suffix.lower() != ".onnx":
        raise UserError(f"{file}: must be an .onnx file")
    for sources in (arguments.calibrate, arguments.test):
        for source in sources:
            if next(frames(source), None) is None:  # what is wrong is said before anything long begins
                raise UserError(f"{source}: has no frames in this part of it")
    with tempfile.TemporaryDirectory() as work:
        exact = adopt("yolox", file, Path(work) / "float")
        target = Path(work) / f"{file.stem}_int8.tflite"
        model = TaskModel(open_task(exact, "detection"))
        count = quantize(file, target, pictures(model, arguments.calibrate))
        adopt("yolox", target, folder)
        record = measure(exact, folder, arguments.test)
        size = {"float": file.stat().st_size, "int8": target.stat().st_size}
    names = [Path(s.split(":")[0]).name + s.removeprefix(s.split(":")[0]) for s in arguments.calibrate]
    record |= {
        "file": file.name,
        "bytes": size,
        "calibrated": {"pictures": count, "sources": names},
        "machine": f"{platform.machine()}, OpenCV {cv2.__version__}",
        "code": provenance.current(),
    }
    if output:
        atomic.write_json(output, record)
    for name, test in record["tests"].items():
        total = test["all"]
        print(f"{name}: {total['found']} of {total['wanted']} found, {total['false']} false, IoU {test['mean_iou']}")
    print(f"{folder}: {record['cpu_ms']['int8']} ms of processor time instead of {record['cpu_ms']['float']}")
