"""What a `model.json` says, typed and checked field by field: how to feed, read and judge the model beside it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge.errors import ModelError
from edge.geometry import FITS
from edge.inference.fields import MOST, Fields, is_whole
from edge.inference.formats import INPUT_STEP
from edge.inference.modelspec import (
    EdgeTPUMapping,
    Grid,
    InputSpec,
    OutputSpec,
    Quantization,
    RateThreshold,
    ScoreSpec,
    StateSpec,
    TensorRTEngine,
    Validation,
)
from edge.inference.runtimes import FORMATS, STORED
from edge.tiling import Tiles

SCHEMA = 2
NAME = "model.json"
MOST_SMOOTH = 255  # pixels, a choice; the least that is too large for OpenCV's filters depends on the map
MOST_SIGMA = 1000.0  # pixels, a choice: beyond it every map is flat, and the kernel takes seconds
MOST_CLIP_BYTES = 1 << 30  # a choice: the frames of a clip are kept at the model's size
MOST_TILES = 64  # along a side, a choice: each is an inference
MOST_WARMUP = 255  # a choice: so many inferences come before the first verdict


@dataclass(frozen=True)
class ModelInfo:
    """A checked `model.json`; `raw` is the JSON object, `path` the model file, `files` every file with its sha256."""

    folder: Path
    raw: dict[str, Any] = field(repr=False)
    path: Path
    task: str
    name: str
    format: str
    files: dict[str, str]
    input: InputSpec
    outputs: tuple[OutputSpec, ...]
    state: tuple[StateSpec, ...]
    score: ScoreSpec
    threshold: float
    threshold_method: str
    rates: tuple[RateThreshold, ...]  # none where the folder is older
    median: float | None  # of the scores of good validation pictures
    quantization: Quantization | None
    validation: Validation | None
    edgetpu: EdgeTPUMapping | None
    tensorrt: TensorRTEngine | None
    params: int
    macs: int
    made_by: dict[str, Any]
    warmup: int = 0  # how often a state that is zero sees the first sample before its verdict

    @property
    def reach(self) -> int:
        """How many frames of a video lie behind a verdict, its own included; 1 for a model of pictures."""
        return max((self.input.frames - 1) * self.input.step, self.warmup) + 1

    def output(self, meaning: str) -> OutputSpec | None:
        """The output of that meaning."""
        return next((output for output in self.outputs if output.meaning == meaning), None)

    def at_rate(self, rate: float) -> ModelInfo:
        """The same model with its threshold for a false-alarm rate; ModelError when it has none for this one."""
        for found in self.rates:
            if math.isclose(found.rate, rate, rel_tol=1e-6):
                return replace(self, threshold=found.value, threshold_method=f"false-alarm rate {found.rate:g}")
        known = ", ".join(f"{found.rate:g}" for found in self.rates) or "none; build the model again"
        raise ModelError(f"{self.folder}: no threshold for a false-alarm rate of {rate:g}; it has {known}")

    def compiled(self, delegate: str | None) -> Path:
        """The file to run: the model file, from which a device may build its own, or the one compiled for `delegate`;
        ModelError when there is none, since a delegate would leave all of the model file to the CPU."""
        part = getattr(self, delegate or "", None)
        if delegate is None or (part and FORMATS[delegate].built_on_device):
            return self.path
        name: str | None = getattr(part, "file", None)
        if not name:
            raise ModelError(f"{self.folder}: not compiled for {delegate}; build a variant of format {delegate}")
        return self.folder / name

    def precision(self, delegate: str | None) -> str:
        """In what the device builds the file for `delegate`."""
        return self.tensorrt.precision if self.tensorrt and delegate == "tensorrt" else "float32"

    @property
    def own_files(self) -> dict[str, str]:
        """The files of the model itself: all but one compiled from it."""
        compiled = self.edgetpu.file if self.edgetpu else None
        return {name: digest for name, digest in self.files.items() if name != compiled}

    @property
    def sha256(self) -> str:
        """What tells this model from others: the digest of its file, of several the digest of their digests."""
        digests = [digest for _, digest in sorted(self.own_files.items())]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        return sum((self.folder / name).stat().st_size for name in self.own_files)


def parse(folder: Path, raw: Any) -> ModelInfo:
    """The content of the model.json of a folder whose files are not looked at; ModelError names the wrong field."""
    top = Fields(folder / NAME, raw)
    info = top.parsed(lambda at: _info(folder, at))
    if raw["file"] not in info.files:
        raise top.error("file", f"the name of a file in the model folder: {', '.join(info.files) or 'it has none'}")
    if info.edgetpu and info.edgetpu.file not in (None, *info.files):
        raise ModelError(f"{top.path}: edgetpu.file = {info.edgetpu.file!r}: must be a file in the model folder")
    if info.score.rule == "output" and info.input.resize != "stretch":
        raise ModelError(
            f"{top.path}: input.resize = {info.input.resize!r}: must be 'stretch' where the model computes its score "
            "(score.rule), from which padding can't be cut off"
        )
    for meaning, least in (("map", 1), ("score", int(info.score.rule == "output")), ("embedding", 0)):
        count = sum(output.meaning == meaning for output in info.outputs)
        if not least <= count <= 1:
            raise ModelError(f"{top.path}: outputs: {count} of meaning {meaning!r}; there must be one")
    return info


def _info(folder: Path, top: Fields) -> ModelInfo:
    top.choice("schema", SCHEMA)
    task = top.choice("task", "anomaly")
    threshold, method, rates, median = top.object("threshold", _threshold)
    params, macs = top.object("cost", lambda at: (at.whole("params", 0), at.whole("macs", 0)))
    return ModelInfo(
        folder=folder,
        raw=top.values,
        path=folder / top.text("file"),
        task=task,
        name=top.text("name"),
        format=top.choice("format", *STORED),
        files=top.object("files", Fields.mapping),
        input=top.object("input", _input),
        outputs=top.objects("outputs", _output),
        state=top.objects("state", _state),
        score=top.object("score", _score),
        threshold=threshold,
        threshold_method=method,
        rates=rates,
        median=median,
        quantization=top.optional("quantization", _quantization),
        validation=top.optional("validation", _validation),
        edgetpu=top.optional("edgetpu", _edgetpu),
        tensorrt=top.optional("tensorrt", _tensorrt),
        params=params,
        macs=macs,
        made_by=top.optional("made_by", Fields.mapping) or {},
        warmup=top.whole("warmup", 0, MOST_WARMUP) if "warmup" in top.values else 0,
    )


def _input(at: Fields) -> InputSpec:
    spec = InputSpec(
        height=at.whole("height", 1),
        width=at.whole("width", 1),
        color=at.choice("color", "rgb", "grey"),
        frames=at.whole("frames", 1),
        step=at.whole("step", 1),
        resize=at.choice("resize", *FITS),
        layout=at.choice("layout", "nhwc", "nchw"),
        dtype=at.choice("dtype", "int8", "uint8", "float32"),
        scale=at.number("scale", 0, open_low=True),
        zero_point=at.whole("zero_point", -128, 127),
        depth=at.whole("depth", 9, 16) if "depth" in at.values else None,
        tiles=at.object("tiles", _tiles) if "tiles" in at.values else Tiles(),
    )
    if not spec.tiles.fit(spec.height, spec.width):
        raise at.error("tiles", "such that tiles overlap by half of a side at most")
    if spec.color == "rgb" and spec.frames != 1:
        raise at.error("frames", "1 for rgb; only grey frames are stacked")
    if not math.isclose(spec.scale, INPUT_STEP, rel_tol=1e-6):
        raise at.error("scale", f"{INPUT_STEP} (1/255): the picture stands for [0, 1]")
    if ((spec.frames - 1) * spec.step + 1) * math.prod(spec.geometry.canvas) > MOST_CLIP_BYTES:
        raise at.error("step", f"so small that the frames of a clip fit into {MOST_CLIP_BYTES >> 20} MiB")
    zero_point = -128 if spec.dtype == "int8" else 0
    if spec.zero_point != zero_point:
        raise at.error("zero_point", f"{zero_point} for {spec.dtype}")
    return spec


def _tiles(at: Fields) -> Tiles:
    return Tiles(at.whole("rows", 1, MOST_TILES), at.whole("columns", 1, MOST_TILES), at.whole("overlap", 0))


def _grid(at: Fields) -> tuple[str, float, int]:
    """dtype, scale and zero_point of a tensor; nothing to dequantize in float32: null, or the identity."""
    dtype = at.choice("dtype", "int8", "float32")
    if dtype == "int8":
        zero_point = at.whole("zero_point", -128, 127)
        return dtype, at.number("scale", 0, open_low=True), zero_point
    for key, identity in (("scale", 1.0), ("zero_point", 0)):
        if isinstance(at.get(key), bool) or at.get(key) not in (None, identity):
            raise at.error(key, f"null or {identity} for float32")
    return dtype, 1.0, 0


def _output(at: Fields) -> OutputSpec:
    meaning = at.choice("meaning", "map", "score", "embedding")
    height, width = (at.whole(key, 1, 1 if meaning == "score" else MOST) for key in ("height", "width"))
    channels = at.whole("channels", 1, MOST if meaning == "embedding" else 1)
    return OutputSpec(at.text("name"), meaning, height, width, channels, *_grid(at))


def _state(at: Fields) -> StateSpec:
    shape = at.get("shape")
    if not isinstance(shape, list) or not shape or not all(is_whole(n) and 0 < n <= MOST for n in shape):
        raise at.error("shape", "a list of whole numbers above 0")
    return StateSpec(at.text("input"), at.text("output"), tuple(shape), *_grid(at))


def _score(at: Fields) -> ScoreSpec:
    smooth, sigma = at.whole("smooth", 1, MOST_SMOOTH), at.number("sigma", 0, high=MOST_SIGMA)
    spec = ScoreSpec(at.choice("rule", "max", "output"), smooth, sigma)
    if spec.smooth % 2 == 0:
        raise at.error("smooth", "an odd number (1: no smoothing)")
    return spec


def _threshold(at: Fields) -> tuple[float, str, tuple[RateThreshold, ...], float | None]:
    if "rate" in at.values:
        at.number("rate", 0, high=1)
    if "good" in at.values:
        at.whole("good", 1)
    rates = at.objects("rates", _rate) if "rates" in at.values else ()
    median = at.number("median") if "median" in at.values else None
    return at.number("value"), at.text("method"), rates, median


def _rate(at: Fields) -> RateThreshold:
    rate, low, high = (at.number(key, 0, high=1) for key in ("rate", "low", "high"))
    return RateThreshold(rate, at.number("value"), low, high, at.choice("shown", True, False))


def _quantization(at: Fields) -> Quantization:
    grid = at.object("output", lambda o: Grid(o.number("scale", 0, open_low=True), o.whole("zero_point", -128, 127)))
    return Quantization(at.text("scheme"), at.text("ranges"), grid, at.optional("fidelity", Fields.mapping))


def _validation(at: Fields) -> Validation:
    defects = "cutpaste" if "cutpaste" in at.values else "defects"  # what it was called before
    rows = at.objects("thresholds", Fields.mapping) if "thresholds" in at.values else ()
    return Validation(at.number("auroc", 0, high=1), at.whole("good", 1), at.whole(defects, 1), rows)


def _edgetpu(at: Fields) -> EdgeTPUMapping:
    return EdgeTPUMapping(
        ops=at.whole("ops", 0),
        mapped=at.whole("mapped", 0),
        subgraphs=at.whole("subgraphs", 0),
        parameter_bytes=at.whole("parameter_bytes", 0),
        file=at.text_or_null("file"),
        compiler=at.text_or_null("compiler"),
        on_chip_bytes=at.whole_or_null("on_chip_bytes"),
        streamed_bytes=at.whole_or_null("streamed_bytes"),
        min_runtime_version=at.whole_or_null("min_runtime_version"),
        predicted_mapped=at.whole("predicted_mapped", 0) if "predicted_mapped" in at.values else None,
        how=at.choice("how", "compiled", "predicted"),
        cpu=at.objects("cpu", Fields.mapping),
    )


def _tensorrt(at: Fields) -> TensorRTEngine:
    return TensorRTEngine(at.choice("precision", *FORMATS["tensorrt"].precisions))
