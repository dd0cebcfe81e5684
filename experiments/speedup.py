"""`python -m experiments speedup VARIANT...`: exported files against EfficientAD-S and each other, interleaved.

One core, one picture of 256 x 256 at a time: every round runs each of them once, so that what disturbs the machine
disturbs all.
EfficientAD-S (Batzner et al., WACV 2024) is here for its time alone: torch, float32, random weights.
"""

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
from experiments import provenance
from experiments.ratios import HEAD, REFERENCE, table_rows
from stages.common import atomic, params
from stages.common.progress import track
from stages.report.formatting import markdown_table

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

    def once():
        with torch.inference_mode():
            model(image)

    return once


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
    for once in runs.values():
        once()
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in track(range(rounds), "rounds"):
        for name, once in runs.items():
            start = perf_counter()
            once()
            samples[name].append((perf_counter() - start) * 1e3)
    latency = {name: median(values) for name, values in samples.items()}
    speedup = {name: latency[REFERENCE] / value for name, value in latency.items()}
    return {"rounds": rounds, "threads": 1, "latency_ms": latency, "times_faster_than_efficientad_s": speedup}


def first_teacher(variants: list[str]) -> str | None:
    """The first of `variants` whose role in params.yaml is that of a teacher."""
    known = params.validate(params.read_yaml("params.yaml")).variants
    return next((name for name in variants if name in known and known[name].role == "teacher"), None)


def add_arguments(parser) -> None:
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="exported variants, e.g. teacher-onnx")
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="how often each of them runs (30)")
    parser.add_argument("--output", type=Path, default=OUT, metavar="FILE", help=f"where the result stays ({OUT})")


def run(arguments) -> None:
    """Writes the result with the code that was measured, and prints its table."""
    if arguments.rounds < 1:
        raise UserError(f"--rounds {arguments.rounds}: must be at least 1")
    teacher = first_teacher(arguments.variants)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = measure(arguments.variants, arguments.rounds) | {"teacher": teacher, "code": provenance.current()}
    atomic.write_json(arguments.output, found)
    print(markdown_table(HEAD, table_rows(found)))
