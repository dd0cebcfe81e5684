"""Model folders of the tasks `detection` and `pose`: what their model.json says, and how a frame is fed to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.arrays import Image
from edge.errors import ModelError, reason
from edge.inference.detector import MOST_THREADS
from edge.inference.fields import Fields
from edge.inference.formats import Runtime
from edge.inference.modelfile import read_folder
from edge.inference.modelinfo import NAME, SCHEMA
from edge.inference.runtimes import DELEGATES, FORMATS, STORED
from edge.watch import reading

TASKS = ("detection", "pose")
DTYPES = ("float32", "uint8", "int8")
MOST_SIDE = 4096


@dataclass(frozen=True)
class TaskInput:
    """A frame becomes height x width, stretched or letterboxed (scaled to fit, the rest at the right and bottom filled
    with `pad`); the tensor holds (value - mean) * scale."""

    height: int
    width: int
    color: str  # rgb | bgr
    layout: str  # nhwc | nchw
    dtype: str
    fit: str  # letterbox | stretch
    pad: int
    mean: float
    scale: float


@dataclass(frozen=True)
class TaskInfo:
    """A checked model.json of such a task; `decode` names what makes boxes or keypoints of the output."""

    folder: Path
    task: str
    name: str
    format: str
    path: Path
    files: dict[str, str]
    input: TaskInput
    decode: str
    classes: tuple[str, ...] = ()
    score: float = 0.3  # boxes under this are noise
    overlap: float = 0.45  # two boxes of one class that overlap so far are one
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def sha256(self) -> str:
        """The digest of the model file."""
        return self.files[self.path.name]


def parse(folder: Path, raw: Any) -> TaskInfo:
    top = Fields(folder / NAME, raw)
    info = top.parsed(lambda at: _info(folder, at))
    if info.path.name not in info.files:
        raise top.error("file", f"the name of a file in the model folder: {', '.join(info.files) or 'it has none'}")
    return info


def _info(folder: Path, top: Fields) -> TaskInfo:
    top.choice("schema", SCHEMA)
    task = top.choice("task", *TASKS)
    top.maybe("made_by", None, lambda key: top.object(key, Fields.mapping))
    classes: tuple[str, ...] = ()
    if task == "detection":
        classes = reading.names(top, "classes")
    return TaskInfo(
        folder=folder,
        task=task,
        name=reading.name(top, "name"),
        format=top.choice("format", *STORED),
        path=folder / reading.name(top, "file"),
        files=top.object("files", Fields.mapping),
        input=top.object("input", _input),
        decode=top.choice("decode", *DECODES[task]),
        classes=classes,
        score=top.maybe("score", 0.3, lambda key: top.number(key, 0, high=1)),
        overlap=top.maybe("overlap", 0.45, lambda key: top.number(key, 0, open_low=True, high=1)),
        raw=top.values,
    )


DECODES = {"detection": ("yolox",), "pose": ("movenet",)}  # the outputs that are understood


def _input(at: Fields) -> TaskInput:
    return TaskInput(
        height=at.whole("height", 32, MOST_SIDE),
        width=at.whole("width", 32, MOST_SIDE),
        color=at.choice("color", "rgb", "bgr"),
        layout=at.choice("layout", "nhwc", "nchw"),
        dtype=at.choice("dtype", *DTYPES),
        fit=at.choice("fit", "letterbox", "stretch"),
        pad=at.whole("pad", 0, 255),
        mean=at.number("mean"),
        scale=at.number("scale", 0, open_low=True),
    )


class TaskModel:
    """An opened model folder: `run(frame)` gives its outputs and the share of the input that the frame takes up
    (width, height), 1 and 1 unless it was letterboxed."""

    def __init__(self, info: TaskInfo, threads: int = 1, delegate: str | None = None):
        if not 1 <= threads <= MOST_THREADS:
            raise ModelError(f"threads = {threads}: must be from 1 to {MOST_THREADS}")
        if delegate is not None and (delegate not in DELEGATES or FORMATS[delegate].stored_as != info.format):
            allowed = ", ".join(DELEGATES)
            raise ModelError(f"{info.path}: no delegate {delegate!r} for {info.format}; there are {allowed}")
        self.info = info
        self.runtime: Runtime = FORMATS[delegate or info.format].open(info.path, threads, info.sha256)
        spec = info.input
        sides = (spec.height, spec.width)
        shape = (1, *sides, 3) if spec.layout == "nhwc" else (1, 3, *sides)
        found = self.runtime.inputs[0] if len(self.runtime.inputs) == 1 else None
        if found is None or tuple(found.shape) != shape or found.dtype != spec.dtype:
            has = ", ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in self.runtime.inputs)
            raise ModelError(f"{info.path}: takes {has}, but model.json says {spec.dtype} {list(shape)}")

    def run(self, frame: Image) -> tuple[list[NDArray[Any]], tuple[float, float]]:
        tensor, share = self.prepare(frame)
        return self._invoke(tensor), share

    def prepare(self, frame: Image) -> tuple[NDArray[Any], tuple[float, float]]:
        """The tensor of a frame, and the share of it that the frame takes up."""
        spec, (height, width) = self.info.input, frame.shape[:2]
        share = (1.0, 1.0)
        target = (spec.width, spec.height)
        if spec.fit == "letterbox":
            scale = min(spec.width / width, spec.height / height)
            target = max(1, round(width * scale)), max(1, round(height * scale))
            share = target[0] / spec.width, target[1] / spec.height
        shrinks = target[0] < width
        small = cv2.resize(frame, target, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        if target != (spec.width, spec.height):
            padded = np.full((spec.height, spec.width, 3), spec.pad, np.uint8)
            padded[: target[1], : target[0]] = small
            small = padded
        if spec.color == "bgr":
            small = small[..., ::-1]
        return self._tensor(small), share

    def _tensor(self, picture: Image) -> NDArray[Any]:
        spec = self.info.input
        tensor: NDArray[Any] = picture
        if spec.dtype != "uint8" or spec.mean or spec.scale != 1:
            values = (picture.astype(np.float32) - np.float32(spec.mean)) * np.float32(spec.scale)
            tensor = values if spec.dtype == "float32" else np.clip(np.rint(values), *LIMITS[spec.dtype])
        if spec.layout == "nchw":
            tensor = tensor.transpose(2, 0, 1)
        return np.ascontiguousarray(tensor[None].astype(spec.dtype))

    def _invoke(self, tensor: NDArray[Any]) -> list[NDArray[Any]]:
        try:
            found = self.runtime.invoke([tensor], list(range(len(self.runtime.outputs))))
        except Exception as error:  # whatever the runtime raises
            raise ModelError(f"{self.info.path}: {self.runtime.details['name']} failed: {reason(error)}") from error
        return [
            (values.astype(np.float32) - t.zero_point) * (t.scale or 1.0) if t.dtype in ("int8", "uint8") else values
            for values, t in zip(found, self.runtime.outputs)  # noqa: B905 (strict needs Python 3.10)
        ]


LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}


def open_task(folder: str | Path, task: str) -> TaskInfo:
    """The model of a folder, which must be of that task."""
    info = read_folder(folder, parse)
    if info.task != task:
        raise ModelError(f"{info.folder / NAME}: task = {info.task!r}: must be {task!r} here")
    return info
