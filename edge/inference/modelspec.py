"""The parts of a `model.json`, typed: tensors, score, thresholds, and how a model was quantized and validated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edge.geometry import Geometry
from edge.tiling import Tiles


@dataclass(frozen=True)
class InputSpec:
    """What the model takes: a picture [height, width, 3] in RGB, or `frames` grey ones [height, width, frames] of a
    video, `step` frames apart, the last one being now; `scale` and `zero_point` turn tensor values into [0, 1].

    With more than one of `tiles`, each of them has that size, and the picture the size that they cover."""

    height: int
    width: int
    color: str  # rgb | grey
    frames: int
    step: int
    resize: str  # a key of FITS
    layout: str  # nhwc | nchw
    dtype: str  # int8 | uint8 | float32
    scale: float
    zero_point: int
    depth: int | None = None  # of 16-bit picture files, the bits that hold the values; None: all of them
    tiles: Tiles = field(default_factory=Tiles)

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.height, self.width, self.resize, self.tiles)

    @property
    def channels(self) -> int:
        return 3 if self.color == "rgb" else self.frames


@dataclass(frozen=True)
class OutputSpec:
    """One of the tensors that the model returns; its values are (raw - zero_point) * scale."""

    name: str
    meaning: str  # map: of the anomaly; score: one number; embedding: a vector at each place
    height: int
    width: int
    channels: int
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True)
class StateSpec:
    """An output that becomes an input of the next inference, the same raw values; zero at first."""

    input: str
    output: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True)
class ScoreSpec:
    """How the map becomes one number: `smooth` is a mean filter's side, `sigma` the blur of the shown map in px."""

    rule: str  # max | output
    smooth: int
    sigma: float


@dataclass(frozen=True)
class Grid:
    """What the integers stand for: (raw - zero_point) * scale."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Quantization:
    """How an int8 model came about; `output` is the grid of its map, also where the file's own output is float."""

    scheme: str
    ranges: str
    output: Grid
    fidelity: dict[str, Any] | None  # the file against the network that was trained


@dataclass(frozen=True)
class RateThreshold:
    """The threshold for a false-alarm rate, and the confidence interval of its true rate; `shown`: whether good
    validation pictures were enough to show so small a rate."""

    rate: float
    value: float
    low: float
    high: float
    shown: bool


@dataclass(frozen=True)
class Validation:
    """Image AUROC of good validation pictures against defects, and how many there were of each.

    The defects are synthetic; those of a supervised detector are labelled ones, and `thresholds` has what its score
    says of all of them at each threshold that was tried."""

    auroc: float
    good: int
    defects: int
    thresholds: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class EdgeTPUMapping:
    """What of the model runs on the Edge TPU; `file` is the compiled one, None where the mapping is only predicted."""

    how: str  # compiled | predicted
    file: str | None
    ops: int
    mapped: int
    predicted_mapped: int | None
    cpu: tuple[dict[str, Any], ...]  # op, count or index, why, source
    subgraphs: int
    parameter_bytes: int
    on_chip_bytes: int | None
    streamed_bytes: int | None
    min_runtime_version: int | None
    compiler: str | None


@dataclass(frozen=True)
class TensorRTEngine:
    """What a device with TensorRT builds of the ONNX file: an engine in float32, float16 or int8."""

    precision: str
