"""A model folder as something that looks at samples: the only place that resizes, runs and scores."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.arrays import Floats, Image, Raw
from edge.errors import ModelError, reason
from edge.geometry import Size
from edge.inference import scoring, tensors
from edge.inference.formats import Runtime
from edge.inference.modelfile import open_model
from edge.inference.modelinfo import ModelInfo
from edge.inference.modelspec import OutputSpec
from edge.inference.runtimes import DELEGATES, FORMATS

if TYPE_CHECKING:
    from edge.defects.catalogue import Catalogue, TypeVerdict

MOST_THREADS = 1024  # more is a typing error that would exhaust the machine


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says about one sample; `raw_map` is float32 [h, w] as the model gives it: of several tiles one
    map, of a letterboxed picture the part that is the picture's."""

    score: float
    is_defect: bool
    raw_map: Floats = field(repr=False)
    info: ModelInfo = field(repr=False)
    raw: list[list[Raw]] = field(repr=False)  # of each tile, the output tensors in the order of model.json
    size: Size  # height and width of the picture
    types: Catalogue | None = field(default=None, repr=False)  # what a defect's type is told from

    @cached_property
    def map(self) -> Floats:
        """The anomaly map, float32 [height, width] of what the picture fills of the model's input; computed where it is
        shown or compared."""
        return picture_map(self.info, self.raw_map, self.size)

    @property
    def calibrated(self) -> float:
        """The score from 0 to 1: 0.5 at the threshold, 0.05 at the median of good validation pictures."""
        return scoring.calibrated(self.score, self.info.threshold, self.info.median)

    @cached_property
    def embedding(self) -> Floats | None:
        """A vector at each place, float32 [h, w, D]; None where the model has no such output."""
        found = _read(self.info, "embedding", self.raw)
        return self.info.input.geometry.joined(found, self.size) if found else None

    @cached_property
    def type(self) -> TypeVerdict | None:
        """What kind of defect it is; None for a good sample, and where the detector has no catalogue."""
        return self.types.type_of(self) if self.types is not None and self.is_defect else None


class Detector:
    """A deployed model with its runtime; ModelError when the folder or the runtime is not usable.

    `types`, a catalogue of labelled defects, tells the type of a defect (`Prediction.type`).

    `predict` takes a sample of any size; what is in a hurry or measures calls the steps: `resize`, `judge` (`tensors`,
    `invoke_all`, score). A model with state goes on from the sample before; `reset` starts anew. Then the first sample
    is seen `warmup` times more: it stands in for those that were before it.
    """

    def __init__(self, info: ModelInfo, threads: int = 1, delegate: str | None = None, types: Catalogue | None = None):
        self.info, self.types = info, types
        self.runtime = open_runtime(info, threads, delegate)
        self.details = self.runtime.details
        self.places = tensors.find(info, self.runtime)
        self.reset()

    def reset(self) -> None:
        """Forgets the samples seen: every state is zero again."""
        zero: list[Raw] = [np.full(state.shape, state.zero_point, state.dtype) for state in self.info.state]
        self._states = [zero] * self.info.input.tiles.count
        self._waiting = [self.info.warmup] * self.info.input.tiles.count

    def predict(self, sample: Image) -> Prediction:
        """The verdict on a sample, uint8 [H, W, 3] RGB or [H, W, frames] grey: fitted to the model's input."""
        return self.judge(self.resize(sample), (sample.shape[0], sample.shape[1]))

    def resize(self, sample: Image) -> Image:
        """The sample, or one frame [H, W] of it, fitted to the model's input, all of its tiles."""
        if sample.ndim not in (2, 3) or not sample.size:
            raise ValueError(f"sample is {sample.dtype} {list(sample.shape)}: must be uint8 [H, W] or [H, W, channels]")
        return self.info.input.geometry.sample(sample)

    def judge(self, sample: Image, size: Size | None = None) -> Prediction:
        """The verdict on a sample that `resize` made of a picture of that size (None: one that fills the input)."""
        info, geometry = self.info, self.info.input.geometry
        size, raw = size or geometry.canvas, self.invoke_all(self.tensors(sample))
        raw_map = geometry.joined([map[..., 0] for map in _read(info, "map", raw)], size)
        outputs = _read(info, "score", raw)  # of the tiles the highest counts, as of the places of a map
        output = float(np.max(outputs)) if outputs else None
        score = scoring.image_score(raw_map, info.score.rule, info.score.smooth, output)
        if not math.isfinite(score):  # nan would pass for good
            raise ModelError(f"{info.path}: the score of a sample is {score}; train or build the model again")
        return Prediction(score, scoring.is_defect(score, info.threshold), raw_map, info, raw, size, self.types)

    def tensors(self, sample: Image) -> list[Raw]:
        """The tensor of each tile of a resized sample."""
        spec = self.info.input
        _check(sample, (*spec.geometry.canvas, spec.channels))
        return [self.prepare(crop) for crop in spec.geometry.crops(sample)]

    def invoke_all(self, tensors: list[Raw]) -> list[list[Raw]]:
        """The raw outputs for the tensors of all tiles."""
        return [self.invoke(tensor, tile) for tile, tensor in enumerate(tensors)]

    def prepare(self, sample: Image) -> Raw:
        """The tensor of one tile, of a whole sample where there is one: int8 is the byte - 128, uint8 the byte,
        float32 lies in [0, 1]."""
        spec = self.info.input
        _check(sample, (spec.height, spec.width, spec.channels))
        if spec.dtype == "int8":
            tensor: Raw = (sample ^ np.uint8(128)).view(np.int8)
        elif spec.dtype == "uint8":
            tensor = sample
        else:
            tensor = sample.astype(np.float32) * np.float32(spec.scale)
        if spec.layout == "nchw":
            tensor = tensor.transpose(2, 0, 1)
        return np.ascontiguousarray(tensor[None])

    def invoke(self, tensor: Raw, tile: int = 0) -> list[Raw]:
        """The raw outputs for a prepared tensor, in the order of model.json; the state of that tile moves on."""
        if not self.info.state:
            return self._run([tensor], self.places.outputs)
        while self._waiting[tile]:
            self._waiting[tile] -= 1
            self._step(tensor, tile)
        return self._step(tensor, tile)

    def _step(self, tensor: Raw, tile: int) -> list[Raw]:
        places = self.places
        feeds = dict(zip(places.state_inputs, self._states[tile]))  # noqa: B905 (strict needs Python 3.10)
        feeds[places.input] = tensor
        found = self._run([feeds[i] for i in sorted(feeds)], [*places.outputs, *places.state_outputs])
        self._states[tile] = found[len(places.outputs) :]
        return found[: len(places.outputs)]

    def _run(self, feeds: list[Raw], wanted: list[int]) -> list[Raw]:
        """ModelError for whatever the runtime raises: an operator that fails, memory that is not there."""
        try:
            return self.runtime.invoke(feeds, wanted)
        except Exception as error:
            raise ModelError(f"{self.info.path}: {self.details['name']} failed: {reason(error)}") from error


def open_runtime(info: ModelInfo, threads: int, delegate: str | None) -> Runtime:
    """The model's file opened on CPU threads, or what was compiled for a delegate on its accelerator."""
    if threads < 1:
        raise ModelError(f"threads = {threads}: must be at least 1")
    if threads > MOST_THREADS:
        raise ModelError(f"threads = {threads}: must be at most {MOST_THREADS}")
    if delegate is not None and (delegate not in DELEGATES or FORMATS[delegate].stored_as != info.format):
        raise ModelError(f"{info.path}: no delegate {delegate!r} for {info.format}; there are {', '.join(DELEGATES)}")
    return FORMATS[delegate or info.format].open(
        info.compiled(delegate), threads, info.sha256, info.precision(delegate)
    )


def prepare(info: ModelInfo, delegate: str | None = None) -> None:
    """Imports the library, and has the device build the file that it runs where it hasn't yet, which may take minutes:
    before anything is timed."""
    form = FORMATS[delegate or info.format]
    library = form.library()
    if form.built_on_device:
        form.built(library, info.compiled(delegate), info.sha256, info.precision(delegate))


def picture_map(info: ModelInfo, raw_map: Floats, size: Size) -> Floats:
    """The anomaly map, float32 [height, width] of what a picture of that size fills of the model's input, from its raw
    map."""
    geometry, output = info.input.geometry, info.output("map")
    assert output is not None  # every model has one
    whole = geometry.extended(raw_map, (output.height, output.width))
    return scoring.anomaly_map(whole, *geometry.canvas, info.score.sigma, geometry.area(size))


def _check(sample: Image, shape: tuple[int, ...]) -> None:
    if sample.dtype != np.uint8 or sample.shape != shape:
        raise ValueError(f"sample is {sample.dtype} {list(sample.shape)}: must be uint8 {list(shape)}")


def _read(info: ModelInfo, meaning: str, raw: list[list[Raw]]) -> list[Floats]:
    """The output of that meaning of each tile, dequantized, as float32 [h, w, channels]; a map always."""
    places = [i for i, spec in enumerate(info.outputs) if spec.meaning == meaning]  # one at most
    return [_dequantized(info.outputs[i], _placed(info, info.outputs[i], values[i])) for values in raw for i in places]


def _placed(info: ModelInfo, spec: OutputSpec, values: Raw) -> Raw:
    if spec.channels == 1 or info.input.layout == "nhwc":
        return values.reshape(spec.height, spec.width, spec.channels)
    return values.reshape(spec.channels, spec.height, spec.width).transpose(1, 2, 0)


def _dequantized(spec: OutputSpec, values: Raw) -> Floats:
    if spec.dtype == "int8":
        return ((values.astype(np.int32) - spec.zero_point) * np.float32(spec.scale)).astype(np.float32)
    return values.astype(np.float32)


def load(
    folder: str | Path, threads: int = 1, delegate: str | None = None, types: str | Path | None = None
) -> Detector:
    """The detector in a model folder, on `threads` CPU threads or on the accelerator of a delegate ("edgetpu",
    "tensorrt"); types: the folder of a catalogue made with this model."""
    info = open_model(folder)
    known = None if types is None else open_types(types, info)
    return Detector(info, threads, delegate, known)


def open_types(folder: str | Path, info: ModelInfo) -> Catalogue:
    """The catalogue of types in a folder; imported only where there is one."""
    found: Catalogue = importlib.import_module("edge.defects.catalogue").open_catalogue(folder, info)
    return found
