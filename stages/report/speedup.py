"""`python -m stages.report.speedup VARIANT...`: exported files against EfficientAD-S and each other, interleaved.

One core, one picture of 256 x 256 at a time: every round runs each of them once, so that what disturbs the machine
disturbs all.
EfficientAD-S (Batzner et al., WACV 2024) is here for its time alone: torch, float32, random weights.
"""

import argparse
import os
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import nn

from edge.errors import UserError
from edge.inference.detector import load
from edge.inference.timing import noise
from stages.common import atomic
from stages.common.progress import track
from stages.common.stage import fail
from stages.report import summary
from stages.report.ratios import HEAD, REFERENCE, rows

MODELS, OUT = Path("artifacts/models"), Path("reports/speedup.json")
SIZE = 256  # side of the pictures
OUTPUT = 384  # channels of the teacher's features


def description_network(channels: int) -> nn.Sequential:
    """The patch description network PDN-S without padding: images [N, 3, 256, 256] to [N, channels, 56, 56]."""
    convolutions = [
        nn.Conv2d(3, 128, 4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(128, 256, 4),
        nn.ReLU(),
        nn.AvgPool2d(2),
    ]
    return nn.Sequential(*convolutions, nn.Conv2d(256, 256, 3), nn.ReLU(), nn.Conv2d(256, channels, 4))


def autoencoder() -> nn.Sequential:
    """The autoencoder of the paper's appendix: a bottleneck of 64 numbers, then upsampling to the teacher's grid."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.ReLU()]
    layers.append(nn.Conv2d(64, 64, 8))
    for size in (3, 8, 15, 32, 63, 127):
        layers += [nn.Upsample(size=(size, size), mode="bilinear"), nn.Conv2d(64, 64, 4, padding=2), nn.ReLU()]
    layers += [nn.Upsample(size=(56, 56), mode="bilinear"), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(64, OUTPUT, 3, padding=1))


class EfficientAD(nn.Module):
    """Images [N, 3, 256, 256] to anomaly maps of the same size, with random weights."""

    def __init__(self):
        super().__init__()
        self.teacher, self.student = description_network(OUTPUT), description_network(2 * OUTPUT)
        self.autoencoder = autoencoder()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        wanted, found, coded = self.teacher(images), self.student(images), self.autoencoder(images)
        local = (wanted - found[:, :OUTPUT]).square().mean(1, keepdim=True)
        whole = (coded - found[:, OUTPUT:]).square().mean(1, keepdim=True)
        return F.interpolate((local + whole) / 2, size=images.shape[-2:], mode="bilinear")


def reference():
    """A function that runs EfficientAD-S once."""
    torch.set_num_threads(1)
    model, image = EfficientAD().eval(), torch.rand(1, 3, SIZE, SIZE)

    def run():
        with torch.inference_mode():
            model(image)

    return run


def measure(variants: list[str], rounds: int) -> dict:
    """Latencies in ms of every variant and of the reference, and the ratios of their medians to it."""
    runs = {REFERENCE: reference()}
    for variant in variants:
        detector = load(MODELS / variant)
        spec = detector.info.input
        if (spec.height, spec.width) != (SIZE, SIZE):
            raise UserError(
                f"{variant}: takes {spec.height} x {spec.width} pictures; EfficientAD-S is timed at {SIZE} x {SIZE}"
            )
        tensor = detector.prepare(noise(spec))
        runs[variant] = lambda detector=detector, tensor=tensor: detector.invoke(tensor)
    for run in runs.values():
        run()
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in track(range(rounds), "rounds"):
        for name, run in runs.items():
            start = perf_counter()
            run()
            samples[name].append((perf_counter() - start) * 1e3)
    latency = {name: median(values) for name, values in samples.items()}
    speedup = {name: latency[REFERENCE] / value for name, value in latency.items()}
    return {"rounds": rounds, "threads": 1, "latency_ms": latency, "times_faster_than_efficientad_s": speedup}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.report.speedup", description=__doc__)
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="exported variants, e.g. teacher-onnx")
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="how often each of them runs (30)")
    parser.add_argument("--output", type=Path, default=OUT, metavar="FILE", help=f"where the result stays ({OUT})")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    try:
        found = measure(arguments.variants, arguments.rounds)
    except UserError as error:
        fail("speedup", str(error))
    atomic.write_json(arguments.output, found)
    print(summary.markdown_table(HEAD, rows(found)))


if __name__ == "__main__":
    main()
