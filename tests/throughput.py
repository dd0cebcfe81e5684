"""What the demo costs beside the bare model: `python tests/throughput.py MODEL VIDEO`, all threads on one core.

CPU time of each thread per frame, interleaved with the bare model and repeated, so that it can be measured on a busy
machine; the video should have the size of the model's input."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time, thread_time

import numpy as np

import edge
from edge.app import overlay
from edge.app.source import Source
from edge.app.stream import Stream
from edge.app.writer import Writer
from edge.inference.timing import noise

REPEATS = 11


class Timed(Stream):
    """A stream that notes the CPU time of its inference thread."""

    def _infer(self, target) -> None:
        start = thread_time()
        super()._infer(target)
        self.inference = thread_time() - start


def bare(detector, tensor, runs: int = 300) -> float:
    """CPU time of one inference in ms."""
    for _ in range(20):
        detector.invoke(tensor)
    start = thread_time()
    for _ in range(runs):
        detector.invoke(tensor)
    return 1000 * (thread_time() - start) / runs


def once(detector, tensor, video: str, output: Path | None) -> tuple[float, float, float]:
    """CPU time in ms: the bare model (before and after), the inference thread per frame, all threads per frame."""
    before, start = bare(detector, tensor), process_time()
    with Timed(detector, Source(video)) as frames, Writer(output, 25, True) if output else nullcontext() as writer:
        for frame in frames:
            if writer:
                shown = overlay.regions(frame.map) if frame.is_defect else []
                threshold = detector.info.threshold
                writer.put(overlay.draw(frame.image, frame.map, threshold, shown, frame.alarm, f"{frame.fps:.0f} fps"))
    total, count = process_time() - start, frames.counts["out"]
    after = bare(detector, tensor)
    return (before + after) / 2, 1000 * frames.inference / count, 1000 * total / count


def main() -> None:
    model, video = sys.argv[1:]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    detector = edge.load(model)
    tensor = detector.prepare(noise(detector.info.input))
    with TemporaryDirectory() as folder:
        for name, output in (("no overlay", None), ("overlay and file", Path(folder) / "out.mp4")):
            found = np.array([once(detector, tensor, video, output) for _ in range(REPEATS)])
            model_ms, thread_ms, all_ms = np.median(found, 0)
            thread_share, all_share = np.median(found[:, :1] / found[:, 1:], 0)
            print(f"{name}: bare model {model_ms:.2f} ms; inference thread {thread_ms:.2f} ms, {thread_share:.0%} of")
            print(f"  1 / latency; all threads on one core {all_ms:.2f} ms, {all_share:.0%}")


if __name__ == "__main__":
    main()
