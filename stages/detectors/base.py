"""The contract of a detector kind: it is fitted to good samples, returns an anomaly map and can be exported.

A kind is one class in a module of this package whose name is the kind. tests/test_detectors.py puts every kind through
the same checks: equal seeds give equal detectors, a saved one comes back as it was, damage and unusable samples are
refused in one line, and the exported file computes what the detector does.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from edge.errors import UserError
from stages.common import atomic, manifest
from stages.common.schema import Section
from stages.graph.tensors import to_tensor

FILE = "detector.json"
MAP, SCORE, EMBEDDING = "map", "score", "embedding"  # what an output means, as in model.json
BATCH = 16  # samples at a time: bounds memory


@dataclass(frozen=True)
class Run:
    """What `fit` needs beside samples and settings.

    stage: the stage whose checkpoints a killed training resumes from. log: called as log(step, **values), for curves.
    source: the detector to learn from: the teacher of a student, the student of its quantized form. For a kind that is
    `supervised`, defects: the labelled defects of train and of val, uint8 [N, H, W, C]; masks: of those of train, bool
    [N, H, W], empty where nobody marked the pixels.
    """

    seed: int
    stage: str
    log: Callable[..., None]
    source: "Detector | None" = None
    defects: tuple[np.ndarray, np.ndarray] | None = None
    masks: np.ndarray | None = None


@dataclass(frozen=True)
class Export:
    """What `compile` turns into a deployed model.

    module: samples float [N, C, H, W] in 0..1 to its outputs; only a `Network` of nodes can become TFLite or int8.
    outputs: the name of each output, in order, and its meaning: one MAP, at most one SCORE and one EMBEDDING.
    score_rule: "max" of the smoothed map, or "output" where the module computes the image score itself.
    quantized: the QuantNetwork that an int8 file is made of; None: compile calibrates. ranges: where its ranges come
    from. smooth: the side of the mean filter before the maximum (None: compile.smooth).
    """

    module: nn.Module
    outputs: dict[str, str]
    score_rule: str = "max"
    quantized: nn.Module | None = None
    ranges: str = ""
    smooth: int | None = None


class Detector(ABC):
    """One kind of detector; subclasses name their `kind` and are found by it (registry.py)."""

    kind: ClassVar[str]
    Settings: ClassVar[type[Section] | None] = None  # of a baseline in params.yaml; None: it needs a source
    supervised: ClassVar[bool] = False  # learns from labelled defects too, and its score is a probability
    kinds: ClassVar[dict[str, type["Detector"]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if hasattr(cls, "kind"):
            Detector.kinds[cls.kind] = cls

    @classmethod
    @abstractmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """Fits to the good samples `train`, uint8 [N, H, W, C]; `val`, more of them, is for choices and scaling only.

        settings: the stage's params. UserError where samples or settings can't be used.
        """

    @abstractmethod
    def write(self, folder: Path) -> dict:
        """Writes weights as safetensors into `folder`; returns the settings that detector.json keeps."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, settings: dict) -> Self:
        """The detector that `write` left there."""

    @abstractmethod
    def export(self) -> Export:
        """What is deployed of the detector."""

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, str | None]:
        """Settings that fit in seconds, and the kind of its source, for the checks that every kind must pass."""
        raise NotImplementedError(f"{cls.__name__}.example")

    def embed(self, images: torch.Tensor) -> torch.Tensor | None:
        """Patch embeddings [N, D, h, w] of samples float [N, C, H, W] in 0..1, from which a student is distilled; None
        for a kind that has none."""
        return None

    def run(self, module: nn.Module, images: torch.Tensor) -> Any:
        """The outputs of what is exported for samples float [N, C, H, W] in 0..1."""
        return module(images)

    def save(self, folder: Path) -> None:
        """Writes the detector, its kind and a manifest of all files into `folder`."""
        settings = self.write(folder)
        atomic.write_json(folder / FILE, {"kind": self.kind, **settings})
        manifest.write(folder)

    @torch.inference_mode()
    def maps(self, samples: np.ndarray) -> torch.Tensor:
        """Anomaly maps float [N, h, w] of samples uint8 [N, H, W, C], as the exported file gives them."""
        export = self.export()
        module, place = export.quantized or export.module, list(export.outputs.values()).index(MAP)
        maps = []
        for i in range(0, len(samples), BATCH):
            outputs = self.run(module, to_tensor(samples[i : i + BATCH]))
            maps.append((outputs if isinstance(outputs, torch.Tensor) else outputs[place]).flatten(1, -3).squeeze(1))
        return torch.cat(maps)


def check_samples(samples: np.ndarray, what: str, least: int = 1) -> None:
    """UserError unless `samples` are uint8 [N, H, W, C] and at least `least`."""
    if samples.dtype != np.uint8 or samples.ndim != 4:
        raise UserError(f"{what}: {samples.dtype} {list(samples.shape)}; samples must be uint8 [N, H, W, C]")
    if len(samples) < least:
        raise UserError(f"{what}: {len(samples)} pictures; at least {least} are needed, see the data section of params")


def check_square(samples: np.ndarray, kind: str) -> None:
    """UserError unless the samples [N, H, W, C] are squares."""
    height, width = samples.shape[1:3]
    if height != width:
        raise UserError(
            f"{height} x {width} pixels: the kind {kind} takes squares alone; set input.size, or leave it out"
        )


def read_settings(folder: Path) -> dict:
    """The content of detector.json; UserError where the folder holds no detector or was changed."""
    manifest.verify(folder)
    try:
        return json.loads((folder / FILE).read_text())
    except FileNotFoundError:
        raise UserError(f"{folder}: holds no {FILE}; made by an older version, run dvc repro") from None
