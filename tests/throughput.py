"""What the demo costs beside the bare model: `PYTHONPATH=. python tests/throughput.py MODEL VIDEO`, on one core.

CPU time of each thread per frame, interleaved with the bare model and repeated, so that it can be measured on a busy
machine; the video should have the size of the model's input. `--clip SIDE` instead of both makes an untrained student
of clips with the settings of the video tier (8 frames, width 1, 4096 entries) and the streaming ConvLSTM, as int8
TFLite, and a video of drawn clips of 640 x 480 pixels: weights change no time. `--output` writes the record that
docs/video-tier.md shows."""

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
MODELS = {"student": False, "convlstm-stream": True}  # of --clip, and whether it is the ConvLSTM


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


def measured(model, video, folder: Path, repeats: int) -> dict:
    """The medians of one model, with and without overlay and file, which are printed too; the shares are those of the
    same rounds."""
    detector = edge.load(model)
    tensor = detector.prepare(noise(detector.info.input))
    print(f"{detector.info.macs / 1e6:.1f} million MACs, {detector.details['delegate']}")
    found: dict = {"macs": detector.info.macs, "delegate": detector.details["delegate"]}
    for name, output in (("no overlay", None), ("overlay and file", folder / "out.mp4")):
        rounds = np.array([once(detector, tensor, str(video), output) for _ in range(repeats)])
        model_ms, thread_ms, all_ms = np.median(rounds, 0).tolist()
        thread_share, all_share = np.median(rounds[:, :1] / rounds[:, 1:], 0).tolist()
        print(f"{name}: bare model {model_ms:.2f} ms; inference thread {thread_ms:.2f} ms, {thread_share:.0%} of")
        print(f"  1 / latency; all threads on one core {all_ms:.2f} ms, {1000 / all_ms:.0f} a second, {all_share:.0%}")
        found[name] = {
            "model_ms": model_ms,
            "thread_ms": thread_ms,
            "thread_share": thread_share,
            "all_ms": all_ms,
            "all_share": all_share,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("given", nargs="*", metavar="MODEL VIDEO")
    parser.add_argument("--clip", type=int, nargs="+", default=[], metavar="SIDE", help="made models of these sizes")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--output", type=Path, help="with --clip: where the record goes, for the table of the docs")
    arguments = parser.parse_args()
    if (len(arguments.given) != 2) != bool(arguments.clip) or (arguments.output and not arguments.clip):
        parser.error("give a model and a video, or --clip")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.given:
            measured(*arguments.given, folder, arguments.repeats)
            return
        rows, video = [], clip_video(folder / "in.avi")
        for kind in MODELS:
            for side in arguments.clip:
                print(f"{kind}, {side} x {side} pixels")
                model = clip_model(folder / f"{kind} {side}", side, MODELS[kind])
                rows.append({"model": kind, "side": side, **measured(model, video, folder, arguments.repeats)})
    if arguments.output:
        write(arguments.output, rows, arguments.repeats)


def write(path: Path, rows: list[dict], repeats: int) -> None:
    """The record that experiments/throughput_table.py shows."""
    from experiments import provenance
    from hardware_runners.runner.remote import machine
    from stages.common import atomic

    where = {"cpu": machine.cpu_model(), "video": "Motion JPEG, 640 x 480 pixels", "rounds": repeats}
    atomic.write_json(path, where | {"frames": FRAMES, "rows": rows, "code": provenance.current()})


if __name__ == "__main__":
    main()
