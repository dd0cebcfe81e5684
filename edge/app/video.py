"""`python -m edge video MODEL IN`: video through the model, with an overlay, a summary and rows for scripts."""

from __future__ import annotations

import argparse
import csv
import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any

import cv2

from edge.address import masked
from edge.app import options, outputs, overlay, privacy, truth
from edge.app.reach import local_file
from edge.app.stream import Frame, Stream, stream
from edge.app.writer import Writer, check_name
from edge.arrays import Image
from edge.errors import UserError, reason, shown

COLUMNS = ("frame", "seconds", "score", "verdict", "alarm", "fresh", "calibrated", "clip")


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("video", help="watch a video file, a network stream or a camera")
    options.add_model(parser)
    options.add_rate(parser)
    options.add_types(parser)
    parser.add_argument("input", help="a video file, an address (rtsp://...) or the number of a camera")
    parser.add_argument("--output", metavar="FILE", help="write the overlay video: .mp4 or .avi")
    parser.add_argument("--segment", type=float, default=0, metavar="MIN", help="start a new output file so often")
    parser.add_argument("--show", action="store_true", help="show it in a window (q ends)")
    parser.add_argument("--loop", action="store_true", help="play a file again and again")
    parser.add_argument("--realtime", action="store_true", help="play a file at its own speed, dropping what is late")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after so long")
    parser.add_argument(
        "--motion", type=float, default=0, metavar="GREY", help="infer only when something moved (try 4)"
    )
    parser.add_argument("--rate", type=float, default=0, metavar="HZ", help="infer at most so often")
    parser.add_argument(
        "--region-level", type=float, default=0.5, metavar="F", help="region edge, median (0) to peak (1)"
    )
    parser.add_argument("--region-area", type=float, default=0.002, metavar="F", help="drop regions under this share")
    parser.add_argument("--steady", type=int, default=5, metavar="N", help="verdicts in a row that turn the alarm")
    parser.add_argument("--truth", metavar="FILE", help="the truth file of a sample video: adds the frame AUROC")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print one row per frame")
    form.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    privacy.add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Watches until the source ends, the window is closed or a signal comes; 0, or an error for bad input."""
    if arguments.output is not None:
        check_name(Path(arguments.output))
        outputs.check([Path(arguments.output)], [Path(local_file(arguments.input))])
    labels = truth.read(arguments.truth) if arguments.truth is not None else None
    guard = privacy.from_options(arguments, privacy.HOLD, privacy.AHEAD)
    names = ("loop", "realtime", "motion", "rate", "steady")
    how = {name: getattr(arguments, name) for name in names}
    watched = _Watched(arguments)
    with stream(options.detector(arguments), arguments.input, guard=guard, **how) as frames:
        lossless = not frames.source.realtime
        path, fps = arguments.output, frames.source.fps
        output = Writer(path, fps, lossless, arguments.segment) if path is not None else nullcontext()
        with _signals(frames, watched), _limit(frames, watched, arguments.seconds), output as writer:
            watched.all(frames, writer, keep_scores=labels is not None)
    summary = watched.summary(frames, guard)
    if writer is not None:
        summary["output"] = {"path": arguments.output, "written": writer.written, "dropped": writer.dropped}
    if labels is not None:
        summary["frame_auroc"] = truth.auroc(labels, watched.scores, arguments.truth)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    elif not arguments.csv:
        print("\n".join(map(shown, _lines(summary))))
    return 0


class _Watched:
    """Goes through the frames in the caller's thread and keeps what the summary needs."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.ended_by, self.defects, self.alarms = "end of video", 0, 0
        self.scores: dict[int, float] = {}
        self.types: Counter[str] = Counter()  # of the frames with a defect
        self._rows = csv.writer(sys.stdout, lineterminator="\n") if arguments.csv else None

    def all(self, frames: Stream, writer: Writer | None, keep_scores: bool) -> None:
        typed = frames.detector.types is not None
        if self._rows:
            self._rows.writerow((*COLUMNS, *["type"] * typed))
        self._start, was = perf_counter(), False
        for frame in frames:
            self.defects += frame.is_defect
            self.alarms += frame.alarm and not was
            was = frame.alarm
            if frame.prediction.type:
                self.types[frame.prediction.type.type] += 1
            if keep_scores:
                self.scores[frame.index] = frame.score
            if self._rows:
                verdict = "defect" if frame.is_defect else "good"
                row = frame.index, f"{frame.seconds:.3f}", f"{frame.score:.6g}", verdict
                more = int(frame.alarm), int(frame.fresh), f"{frame.prediction.calibrated:.4f}", frame.clip
                kind = frame.prediction.type
                self._rows.writerow([*row, *more, *[kind.type if kind else ""] * typed])
            if writer or self.arguments.show:
                picture = self._picture(frame)
                if writer:
                    writer.put(picture)
                if self.arguments.show and _show(picture):
                    self.end(frames, "q")
        self.seconds = perf_counter() - self._start

    def end(self, frames: Stream, why: str) -> None:
        self.ended_by = why
        frames.stop()

    def summary(self, frames: Stream, guard: privacy.Guard | None) -> dict[str, Any]:
        counts = frames.counts
        return {
            "input": masked(self.arguments.input),
            "model": frames.detector.info.name,
            "ended_by": self.ended_by,
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(counts["out"] / self.seconds, 2) if self.seconds else 0.0,
            "frames": counts,
            "defect_frames": self.defects,
            "alarms": self.alarms,
            **({"types": dict(self.types.most_common())} if frames.detector.types is not None else {}),
            "privacy": {"mode": guard.mode, **guard.counts} if guard else None,
        }

    def _picture(self, frame: Frame) -> Image:
        map, threshold = frame.map, frame.prediction.info.threshold
        level, area = self.arguments.region_level, self.arguments.region_area
        shown = overlay.regions(map, level, area) if frame.is_defect else []
        kind = f"{frame.prediction.type.type}  " if frame.prediction.type else ""
        text = f"{kind}{frame.score:.2f} / {threshold:.2f}   {frame.fps:.0f} fps"
        return overlay.draw(frame.image, map, threshold, shown, frame.alarm, text)


@contextmanager
def _signals(frames: Stream, watched: _Watched) -> Iterator[None]:
    """SIGTERM and SIGINT end the capture; what is under way is still written and the file closed."""

    def end(number: int, _: FrameType | None) -> None:
        watched.end(frames, signal.Signals(number).name)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _limit(frames: Stream, watched: _Watched, seconds: float | None) -> Iterator[None]:
    """Ends the capture after so long, also while no frame comes."""
    timer = (
        threading.Timer(min(seconds, threading.TIMEOUT_MAX), watched.end, (frames, "--seconds")) if seconds else None
    )
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()


def _show(picture: Image) -> bool:
    """Shows the picture; True when the user wants to end."""
    try:
        cv2.imshow("edge", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) & 0xFF == ord("q")
    except cv2.error as error:
        if "not implemented" in str(error).lower():
            raise UserError("--show: this OpenCV has no window; pip install opencv-python, or use --output") from None
        raise UserError(f"--show: no window can be opened ({reason(error)}); use --output") from None


def _lines(summary: dict[str, Any]) -> Iterator[str]:
    for key, value in summary.items():
        if value is not None and not isinstance(value, dict):
            yield f"{key:<18} {value}"
    for key in ("frames", "types", "privacy", "output"):
        if summary.get(key):
            yield f"{key:<18} " + ", ".join(f"{k} {v}" for k, v in summary[key].items())
