"""The deployed model: a folder with the model file and a `model.json` that says how to feed, read and judge it."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from edge.errors import UserError

SCHEMA = 1
INPUT_STEP = 1 / 255  # an int8 input is the uint8 pixel - 128, which stands for [0, 1]


class ModelError(UserError):
    """A model folder that can't be used; the message names the file, the field and what is allowed."""


@dataclass(frozen=True)
class InputSpec:
    """What the model takes: one picture; `scale` and `zero_point` turn tensor values into [0, 1]."""

    height: int
    width: int
    channels: int
    color: str
    resize: str
    layout: str  # nhwc | nchw
    dtype: str  # int8 | float32
    scale: float
    zero_point: int


@dataclass(frozen=True)
class OutputSpec:
    """What the model returns: a one-channel map; its values are (raw - zero_point) * scale."""

    name: str
    meaning: str
    height: int
    width: int
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
class ModelInfo:
    """A checked `model.json`; `raw` is the JSON object, `path` the model file."""

    folder: Path
    raw: dict
    path: Path
    task: str
    name: str
    format: str
    sha256: str
    input: InputSpec
    output: OutputSpec
    score: ScoreSpec
    threshold: float
    threshold_method: str
    quantization: dict | None
    params: int
    macs: int
    made_by: dict

    @property
    def files(self) -> list[Path]:
        """The model file, and for OpenVINO the weights beside it."""
        return [self.path, self.path.with_suffix(".bin")] if self.format == "openvino" else [self.path]

    def compiled(self, delegate: str | None) -> Path:
        """The file to run: the model file, or the one compiled for `delegate`; ModelError when there is none, since a
        delegate would leave all of the model file to the CPU."""
        if delegate is None:
            return self.path
        name = (self.raw.get(delegate) or {}).get("file")
        if not name:
            raise ModelError(f"{self.folder}: not compiled for {delegate}; build a variant of format {delegate}")
        return self.folder / Path(name).name

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


def open_model(folder: str | Path) -> ModelInfo:
    """The model in `folder`, its JSON checked field by field and its file against the sha256; ModelError when not."""
    folder = Path(folder)
    path = folder / "model.json"
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: not found; a model folder holds the model file and a model.json") from None
    except (ValueError, OSError) as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from None
    info = _parse(folder, raw)
    if _sha256(info.files) != info.sha256:
        raise ModelError(f"{info.path}: content differs from sha256 in {path}; copy or build the model again")
    return info


def write_model(folder: str | Path, info: dict) -> ModelInfo:
    """Writes `folder/model.json` for the model file already there; `schema` and `sha256` are filled in here."""
    folder = Path(folder)
    path = folder / _Fields(folder / "model.json", info).file_name()
    if not path.is_file():
        raise ModelError(f"{path}: not found; write the model file before its model.json")
    checked = _parse(folder, {**info, "schema": SCHEMA, "sha256": "not yet known"})
    raw = {**checked.raw, "sha256": _sha256(checked.files)}
    checked = replace(checked, raw=raw, sha256=raw["sha256"])
    temporary = folder / ".model.json.tmp"
    temporary.write_text(json.dumps(raw, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, folder / "model.json")
    return checked


def _sha256(paths: list[Path]) -> str:
    """The digest of the files' contents, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


class _Fields:
    """One object of the JSON file; every getter checks a field and names it when it is wrong."""

    def __init__(self, path: Path, values, prefix: str = ""):
        self.path, self.values, self.prefix = path, values, prefix
        if not isinstance(values, dict):
            where = prefix.rstrip(".") or "the file"
            raise ModelError(f"{path}: {where} = {values!r}: must be an object")

    def error(self, key: str, allowed: str) -> ModelError:
        return ModelError(f"{self.path}: {self.prefix}{key} = {self.values[key]!r}: must be {allowed}")

    def get(self, key: str):
        if key not in self.values:
            raise ModelError(f"{self.path}: {self.prefix}{key}: missing field")
        return self.values[key]

    def object(self, key: str) -> _Fields:
        return _Fields(self.path, self.get(key), f"{self.prefix}{key}.")

    def optional_object(self, key: str) -> dict | None:
        value = self.values.get(key)
        return None if value is None else dict(_Fields(self.path, value, f"{self.prefix}{key}.").values)

    def text(self, key: str) -> str:
        if not isinstance(self.get(key), str) or not self.values[key]:
            raise self.error(key, "a non-empty string")
        return self.values[key]

    def choice(self, key: str, *allowed):
        value = self.get(key)
        if isinstance(value, bool) or value not in allowed:
            raise self.error(key, " or ".join(repr(a) for a in allowed))
        return value

    def whole(self, key: str, low: int, high: float = math.inf) -> int:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(key, f"a whole number of at least {low}" + (f" and at most {high}" if high < 1e9 else ""))
        return value

    def number(self, key: str, low: float = -math.inf, open_low: bool = False) -> float:
        value = self.get(key)
        fine = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not fine or value < low or (open_low and value == low):
            limit = "" if low == -math.inf else f" {'above' if open_low else 'of at least'} {low:g}"
            raise self.error(key, f"a finite number{limit}")
        return float(value)

    def file_name(self) -> str:
        name = self.text("file")
        if name in (".", "..") or "/" in name or "\\" in name:
            raise self.error("file", "the name of a file in the model folder, without a path")
        return name


def _parse(folder: Path, raw) -> ModelInfo:
    path = folder / "model.json"
    top = _Fields(path, raw)
    top.choice("schema", SCHEMA)
    info = ModelInfo(
        folder=folder,
        raw=raw,
        path=folder / top.file_name(),
        task=top.choice("task", "anomaly"),
        name=top.text("name"),
        format=top.choice("format", "tflite", "onnx", "openvino"),
        sha256=top.text("sha256"),
        input=_input(top.object("input")),
        output=_output(top.object("output")),
        score=_score(top.object("score")),
        threshold=top.object("threshold").number("value"),
        threshold_method=top.object("threshold").text("method"),
        quantization=top.optional_object("quantization"),
        params=top.object("cost").whole("params", 0),
        macs=top.object("cost").whole("macs", 0),
        made_by=top.optional_object("made_by") or {},
    )
    for file in info.files:
        if not file.is_file():
            raise ModelError(f"{file}: not found, although {path} names it in 'file'")
    return info


def _input(at: _Fields) -> InputSpec:
    spec = InputSpec(
        height=at.whole("height", 1),
        width=at.whole("width", 1),
        channels=at.choice("channels", 3),
        color=at.choice("color", "rgb"),
        resize=at.choice("resize", "stretch"),
        layout=at.choice("layout", "nhwc", "nchw"),
        dtype=at.choice("dtype", "int8", "float32"),
        scale=at.number("scale", 0, open_low=True),
        zero_point=at.whole("zero_point", -128, 127),
    )
    if not math.isclose(spec.scale, INPUT_STEP, rel_tol=1e-6):
        raise at.error("scale", f"{INPUT_STEP} (1/255): the picture stands for [0, 1]")
    zero_point = -128 if spec.dtype == "int8" else 0
    if spec.zero_point != zero_point:
        raise at.error("zero_point", f"{zero_point} for {spec.dtype}")
    return spec


def _output(at: _Fields) -> OutputSpec:
    dtype = at.choice("dtype", "int8", "float32")
    if dtype == "float32":  # nothing to dequantize: null, or the identity
        for key, identity in (("scale", 1.0), ("zero_point", 0)):
            if at.values.get(key) not in (None, identity):
                raise at.error(key, f"null or {identity} for float32")
    return OutputSpec(
        name=at.text("name"),
        meaning=at.choice("meaning", "anomaly_map"),
        height=at.whole("height", 1),
        width=at.whole("width", 1),
        dtype=dtype,
        scale=at.number("scale", 0, open_low=True) if dtype == "int8" else 1.0,
        zero_point=at.whole("zero_point", -128, 127) if dtype == "int8" else 0,
    )


def _score(at: _Fields) -> ScoreSpec:
    spec = ScoreSpec(at.choice("rule", "max", "output"), at.whole("smooth", 1), at.number("sigma", 0))
    if spec.smooth % 2 == 0:
        raise at.error("smooth", "an odd number (1: no smoothing)")
    return spec
