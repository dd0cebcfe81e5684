"""The typed schema of params.yaml: types, ranges, no unknown keys.

Every number, text and list has a limit on both sides (tests/test_params.py looks for one without).
"""

import importlib
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from edge.geometry import FITS, Geometry
from edge.tiling import Tiles as Grid
from stages.common.joins import Backbone, Layers, check_layers
from stages.common.limits import (
    Choices,
    Count,
    Epochs,
    Fraction,
    Location,
    Name,
    Rate,
    Seed,
    Side,
    Text,
    Threads,
    Weight,
    one_of,
)
from stages.common.textfile import printable


def formats() -> dict:
    """The table of formats, imported only when it is needed: every stage imports this schema, and a change in what runs
    a model file must not train anew."""
    return importlib.import_module("edge.inference.runtimes").FORMATS


class Section(BaseModel):
    """A default is what a params.yaml or a published record without that key means, so it never changes: a new key's is
    what was done before there was one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Synthetic(Section):
    size: Annotated[int, Field(ge=32, le=1024)]  # a thread has 2 to 64 px; at 1024 drawing takes 1 to 3 s
    width: Annotated[int, Field(ge=32, le=8192)] | None = None
    train: Annotated[int, Field(ge=4, le=100_000)]  # a choice: of fewer, val and train would hold hardly any
    test_good: Annotated[int, Field(ge=1, le=100_000)]
    test_per_defect: Annotated[int, Field(ge=1, le=100_000)]


class SyntheticClips(Section):
    train: Annotated[int, Field(ge=2, le=10_000)] = 8
    test_good: Annotated[int, Field(ge=0, le=10_000)] = 2
    test_per_anomaly: Annotated[int, Field(ge=1, le=10_000)] = 3
    frames: Annotated[int, Field(ge=16, le=10_000)] = 48  # a choice: of fewer, an anomaly would not pass


class Data(Section):
    source: Text  # fetch, the first stage, says which there are: a list here would tie every stage to all of them
    category: Annotated[Text, Field(max_length=100)]
    path: Location | None
    url: Location | None
    hashes: Location | None
    split: Literal["unsupervised", "supervised"] = "unsupervised"
    val_fraction: Fraction
    test_fraction: Fraction
    seed: Seed
    group: Location | None = None
    group_near_duplicates: bool
    synthetic: Synthetic
    synthetic_clips: SyntheticClips = SyntheticClips()

    @field_validator("category")
    @classmethod
    def is_one_folder(cls, value):
        if "/" in value or value in (".", ".."):
            raise ValueError("must be the name of one folder, without /")
        return value


class Tiles(Section):
    rows: Annotated[int, Field(ge=1, le=64)] = 1
    columns: Annotated[int, Field(ge=1, le=64)] = 1
    overlap: Annotated[int, Field(ge=0, le=512, multiple_of=16)] = 32

    @property
    def grid(self) -> Grid:
        return Grid(self.rows, self.columns, self.overlap)


class Input(Section):
    size: Side | None = None
    height: Side | None = None
    width: Side | None = None
    fit: Annotated[Text, one_of(*FITS)] = "stretch"
    tiles: Tiles = Tiles()
    color: Literal["rgb", "grey"] = "rgb"
    frames: Annotated[int, Field(ge=1, le=32)] = 1
    step: Annotated[int, Field(ge=1, le=10_000)] = 1
    every: Annotated[int, Field(ge=1, le=10_000)] = 1
    depth: Annotated[int, Field(ge=9, le=16)] | None = None

    @model_validator(mode="after")
    def has_two_sides(self):
        sides = [side for side in (self.height, self.width) if side]
        if self.size and sides:
            raise ValueError("size means both height and width; name either size or these two, and leave the rest null")
        if not self.size and len(sides) < 2:
            raise ValueError("name both height and width, or size for a square")
        if not self.tiles.grid.fit(self.geometry.height, self.geometry.width):
            raise ValueError(f"tiles.overlap = {self.tiles.overlap}: must be half of a side of the tile at most")
        return self

    @property
    def geometry(self) -> Geometry:
        """How a picture becomes what a model takes."""
        return Geometry(self.height or self.size or 0, self.width or self.size or 0, self.fit, self.tiles.grid)

    @model_validator(mode="after")
    def clips_are_grey_and_square(self):
        if self.color == "rgb" and self.frames != 1:
            raise ValueError(f"{self.frames} frames of color rgb; set color: grey, only grey frames are stacked")
        geometry = self.geometry
        if self.frames > 1 and (
            geometry.height != geometry.width or geometry.fit != "stretch" or geometry.tiles.count > 1
        ):
            raise ValueError(f"{self.frames} frames: a clip is one square; set size, fit: stretch and one tile")
        return self


class Views(Section):
    """How far the two views of a crop differ at most."""

    zoom: Annotated[float, Field(ge=0, le=0.3)] = 0.1
    angle: Annotated[float, Field(ge=0, le=180)] = 7.5  # degrees
    shift: Annotated[float, Field(ge=0, le=64)] = 4.0  # pixels
    contrast: Annotated[list[Annotated[float, Field(ge=0.01, le=100)]], Field(min_length=2, max_length=2)] = [0.7, 1.4]
    light: Annotated[float, Field(ge=0, le=1)] = 0.1  # of the whole, and of a slope across
    noise: Annotated[float, Field(ge=0, le=1)] = 0.02  # deviation


class Features(Section):
    """Where a detector's features come from."""

    backbone: Backbone
    layers: Layers
    scales: Annotated[list[Annotated[float, Field(ge=0.5, le=4)]], Field(min_length=1, max_length=4)]
    simclr_steps: Annotated[int, Field(ge=0, le=1_000_000)]
    simclr_batch: Annotated[int, Field(ge=2, le=4096)]
    simclr_temperature: Annotated[float, Field(ge=0.001, le=100)] = 0.1  # the paper's for ImageNet
    simclr_views: Views = Views()

    @field_validator("layers")
    @classmethod
    def each_network_has_some(cls, value, info):
        return check_layers(value, info.data.get("backbone"))


class Teacher(Features):
    patch_pool: Annotated[int, Field(ge=1, le=9), one_of(1, 3, 5, 7, 9)]
    patch_stride: Annotated[int, Field(ge=1, le=4), one_of(1, 2, 4)]
    motion: Literal["none", "dis", "farneback"] = "none"
    motion_lag: Annotated[int, Field(ge=1, le=31)] = 2
    coreset_ratio: Annotated[float, Field(gt=0, le=1)]
    coreset_max_patches: Annotated[int, Field(ge=100, le=10_000_000)]
    projection_dim: Annotated[int, Field(ge=1, le=65536)]
    score: Literal["max", "reweighted"]


class Baseline(Section):
    # kind: a module of stages/detectors, which types its settings
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,99}$")]
    settings: dict


class Student(Section):
    init: Location
    width: Annotated[float, Field(ge=0.1, le=4)]
    bank: Annotated[int, Field(ge=8, le=65536)]
    poses: Literal["shown", "none"] = "none"


class Distill(Section):
    images: Annotated[int, Field(ge=2, le=1_000_000)]
    epochs: Annotated[int, Field(ge=0, le=10_000)]
    train_trunk: bool = True  # as it always was before there was a choice
    batch: Annotated[int, Field(ge=2, le=65536)]
    lr: Rate
    feature_weight: Weight
    mask_weight: Weight

    @model_validator(mode="after")
    def something_to_learn(self):
        if self.feature_weight + self.mask_weight == 0:
            raise ValueError("feature_weight and mask_weight must not both be 0")
        return self


class Compress(Section):
    prune_ratio: Annotated[float, Field(ge=0, lt=0.95)]
    finetune_epochs: Epochs
    qat_epochs: Epochs
    lr: Rate


class Fidelity(Section):
    images: Count
    exact: Annotated[float, Field(ge=0, le=1)]
    within_1: Annotated[float, Field(ge=0, le=1)]


class Compile(Section):
    calibration_images: Count
    fidelity: Fidelity
    edgetpu_compiler: Location | None
    smooth: Annotated[int, Field(ge=1, le=7), one_of(1, 3, 5, 7)]
    map_sigma: Annotated[float, Field(ge=0, le=32)]
    false_alarm_rate: Annotated[float, Field(ge=1e-6, le=0.5)]
    threshold: Literal["quantile", "tail"] = "quantile"
    embedding: Annotated[int, Field(ge=0, le=1024)] = 0

    @model_validator(mode="before")
    @classmethod
    def has_its_present_name(cls, tree):
        if isinstance(tree, dict) and "threshold_quantile" in tree:
            raise ValueError("threshold_quantile is now false_alarm_rate, 1 - quantile: 0.02 instead of 0.98")
        return tree


class Variant(Section):
    model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}(/[a-z0-9][a-z0-9-]{0,99})?$")]  # below artifacts
    format: Text
    precision: Literal["float32", "float16", "int8"]
    role: Literal["teacher", "student", "baseline"]
    step: Annotated[Text, Field(max_length=100)] | None = None  # of compression

    @field_validator("format")
    @classmethod
    def known(cls, value):
        if value not in formats():
            raise ValueError(f"must be one of {', '.join(formats())}")
        return value

    @model_validator(mode="after")
    def can_be_made(self):
        if self.precision not in (possible := formats()[self.format].precisions):
            raise ValueError(f"{self.format} is made in {' or '.join(possible)} only")
        if self.step and self.role != "student":
            raise ValueError("only a student is compressed; leave step out")
        return self


class PlanItem(Section):
    device: Name
    variant: Name


class Plan(Section):
    """hardware_runners/plan.yaml."""

    plan: Annotated[dict[Name, PlanItem], Field(max_length=10_000)] | None = None


class Evaluate(Section):
    aupro_fpr_limit: Annotated[float, Field(ge=1e-4, le=1)]
    resolution: Literal["full", "model"] = "model"
    frames_per_second: Annotated[float, Field(ge=0.001, le=10_000)] = 25.0


class Defects(Section):
    variant: Name | None = None
    compare: Name | None = None
    poolings: Choices[Literal["region", "soft", "peak"]] = ["region", "soft"]
    dimensions: Choices[Annotated[int, Field(ge=2, le=1024)]] = [32, 64]
    neighbours: Choices[Annotated[int, Field(ge=1, le=1000)]] = [1, 5, 9, 15]
    known: Fraction = 0.95
    folds: Annotated[int, Field(ge=2, le=1000)] = 10
    draws: Annotated[int, Field(ge=2, le=1000)] = 10
    seed: Seed = 0


class Benchmark(Section):
    runs: Annotated[int, Field(ge=2, le=1_000_000)]
    warmup: Count
    threads: Annotated[list[Threads], Field(min_length=1, max_length=64)]


class Report(Section):
    title: Annotated[str, Field(max_length=1000), AfterValidator(printable)]
    examples: Annotated[int, Field(ge=1, le=24)]
    latency_budget_ms: Annotated[float, Field(ge=1e-3, le=1e6)] | None = None


class Schema(Section):
    seed: Seed
    threads: Threads
    data: Data
    input: Input
    teacher: Teacher
    student: Student
    distill: Distill
    compress: Compress
    compile: Compile
    baselines: Annotated[dict[Name, Baseline], Field(max_length=1000)]
    variants: Annotated[dict[Name, Variant], Field(min_length=1, max_length=1000)]
    evaluate: Evaluate
    benchmark: Benchmark
    defects: Defects = Defects()
    report: Report

    @model_validator(mode="after")
    def padding_is_cut_off(self):
        if self.input.fit != "stretch" and self.teacher.score != "max":
            raise ValueError(
                f"input.fit = {self.input.fit}: padding can't be cut off a score that the model computes; set "
                "teacher.score: max"
            )
        return self

    @model_validator(mode="after")
    def motion_has_frames(self):
        """The three channels of a colour picture would pass for three frames."""
        if self.teacher.motion != "none" and self.teacher.motion_lag >= self.input.frames:
            raise ValueError(
                f"teacher.motion = {self.teacher.motion}: needs clips whose frames reach back "
                f"{self.teacher.motion_lag} (teacher.motion_lag), but input.frames = {self.input.frames}; "
                "set input.color: grey and more input.frames, or teacher.motion: none"
            )
        return self

    @model_validator(mode="after")
    def defects_are_embedded(self):
        for key in ("variant", "compare"):
            name = getattr(self.defects, key)
            if name is not None and name not in self.variants:
                raise ValueError(f"defects.{key} = {name}: no variant; there are {', '.join(self.variants)}")
        if self.defects.variant is not None and not self.compile.embedding:
            raise ValueError(f"defects.variant = {self.defects.variant}: needs an embedding; set compile.embedding: 64")
        return self

    @field_validator("variants")
    @classmethod
    def steps_are_told_apart(cls, variants):
        steps = [variant.step for variant in variants.values() if variant.step]
        if twice := {step for step in steps if steps.count(step) > 1}:
            raise ValueError(f"more than one has the step {', '.join(sorted(twice))}")
        return variants
