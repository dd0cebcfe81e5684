"""What the demo costs beside the bare model: `python tests/throughput.py MODEL VIDEO`, all threads on one core.

CPU time of each thread per frame, interleaved with the bare model and repeated, so that it can be measured on a busy
machine; the video should have the size of the model's input. `--clip SIDE` instead of both makes an untrained student
of clips with the settings of the video tier (8 frames, width 1, 4096 entries) as int8 TFLite, or with `--stream` the
ConvLSTM of one step, and a video of drawn clips of 640 x 480 pixels: weights change no time."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time, thread_time

import cv2
import numpy as np

import edge
from edge.app import overlay
from edge.app.source import Source
from edge.app.stream import Stream
from edge.app.writer import Writer
from edge.inference.timing import noise

REPEATS = 11
FRAMES, FPS = 8, 25  # of a clip that the model sees, as in experiments/tiers/video.yaml


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


def drawn(side: int, clips: int) -> np.ndarray:
    """Frames of so many drawn clips, uint8 [N, side, side]."""
    from stages.fetch.sources.synthetic_clips import draw

    return np.stack([picture for i in range(clips) for picture, _ in draw(side, "train", i, 0, 48)])


def clip_model(folder: Path, side: int, streaming: bool) -> Path:
    """The int8 model of a student of clips, or of the streaming ConvLSTM, with random weights."""
    import torch
    from exporting import export
    from students import detector

    from stages.detectors.convlstm import ConvLSTM, new_network
    from stages.detectors.student_init import new_student
    from stages.graph.tensors import to_tensor

    grey = drawn(side, 1)
    samples = np.stack([np.stack(grey[i : i + FRAMES], -1) for i in range(0, 40, 2)])
    torch.manual_seed(0)
    if streaming:
        made = ConvLSTM(new_network(FRAMES, 16, streaming=True))
    else:
        made = detector(new_student("scratch", 1.0, to_tensor(samples)), samples, 4096)
    return export(made, "tflite", "int8", folder, samples)[1].info.folder


def clip_video(path: Path) -> Path:
    """A Motion JPEG video of drawn clips, 640 x 480 pixels."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (640, 480))
    for picture in drawn(256, 4):
        writer.write(cv2.cvtColor(cv2.resize(picture, (640, 480)), cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("given", nargs="*", metavar="MODEL VIDEO")
    parser.add_argument("--clip", type=int, metavar="SIDE", help="an untrained student of clips of this size")
    parser.add_argument("--stream", action="store_true", help="with --clip: the streaming ConvLSTM")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    arguments = parser.parse_args()
    if (len(arguments.given) != 2) != bool(arguments.clip):
        parser.error("give a model and a video, or --clip")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with TemporaryDirectory() as folder:
        model, video = arguments.given or (
            clip_model(Path(folder), arguments.clip, arguments.stream),
            clip_video(Path(folder) / "in.avi"),
        )
        detector = edge.load(model)
        tensor = detector.prepare(noise(detector.info.input))
        print(f"{detector.info.macs / 1e6:.1f} million MACs, {detector.details['delegate']}")
        for name, output in (("no overlay", None), ("overlay and file", Path(folder) / "out.mp4")):
            found = np.array([once(detector, tensor, str(video), output) for _ in range(arguments.repeats)])
            model_ms, thread_ms, all_ms = np.median(found, 0)
            thread_share, all_share = np.median(found[:, :1] / found[:, 1:], 0)
            print(f"{name}: bare model {model_ms:.2f} ms; inference thread {thread_ms:.2f} ms, {thread_share:.0%} of")
            print(
                f"  1 / latency; all threads on one core {all_ms:.2f} ms, {1000 / all_ms:.0f} a second, {all_share:.0%}"
            )


if __name__ == "__main__":
    main()
