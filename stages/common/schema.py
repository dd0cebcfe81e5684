"""The typed schema of params.yaml: types, ranges, no unknown keys."""

import importlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
NAME = r"^[a-z0-9][a-z0-9-]{0,99}$"  # of a variant, a baseline, an item of the plan: part of paths and of commands
Name = Annotated[str, Field(pattern=NAME)]
Rate = Annotated[float, Field(gt=0, le=1)]


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
    train: Annotated[int, Field(ge=4)]  # a choice: of fewer, val and train would hold hardly any
    test_good: Count
    test_per_defect: Count


class Data(Section):
    source: str  # fetch, the first stage, says which there are: a list here would tie every stage to all of them
    category: str
    path: str | None
    url: str | None
    hashes: str | None
    val_fraction: Fraction
    test_fraction: Fraction
    seed: Annotated[int, Field(ge=0)]
    group: Annotated[str, Field(min_length=1)] | None = None
    group_near_duplicates: bool
    synthetic: Synthetic


class Input(Section):
    size: Annotated[int, Field(ge=32, le=1024, multiple_of=16)]
    color: Literal["rgb", "grey"] = "rgb"
    frames: Annotated[int, Field(ge=1, le=32)] = 1
    step: Count = 1
    depth: Annotated[int, Field(ge=9, le=16)] | None = None

    @model_validator(mode="after")
    def frames_are_grey(self):
        if self.color == "rgb" and self.frames != 1:
            raise ValueError(f"{self.frames} frames of color rgb; set color: grey, only grey frames are stacked")
        return self


class Teacher(Section):
    backbone: Annotated[str, Field(min_length=1)]
    layers: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=4)]
    scales: Annotated[list[Annotated[float, Field(ge=0.5, le=4)]], Field(min_length=1, max_length=4)]
    simclr_steps: Annotated[int, Field(ge=0)]
    simclr_batch: Annotated[int, Field(ge=2)]
    patch_pool: Literal[1, 3, 5, 7, 9]
    patch_stride: Literal[1, 2, 4]
    coreset_ratio: Annotated[float, Field(gt=0, le=1)]
    coreset_max_patches: Annotated[int, Field(ge=100)]
    projection_dim: Count
    score: Literal["max", "reweighted"]


class Baseline(Section):
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]  # a module of stages/detectors, which types its settings
    settings: dict


class Student(Section):
    init: Annotated[str, Field(min_length=1)]
    width: Annotated[float, Field(ge=0.1, le=4)]
    bank: Annotated[int, Field(ge=8, le=65536)]


class Distill(Section):
    images: Annotated[int, Field(ge=2)]
    epochs: Count
    batch: Annotated[int, Field(ge=2)]
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
    finetune_epochs: Annotated[int, Field(ge=0)]
    qat_epochs: Annotated[int, Field(ge=0)]
    lr: Rate


class Fidelity(Section):
    images: Count
    exact: Annotated[float, Field(ge=0, le=1)]
    within_1: Annotated[float, Field(ge=0, le=1)]


class Compile(Section):
    calibration_images: Count
    fidelity: Fidelity
    edgetpu_compiler: str | None
    smooth: Literal[1, 3, 5, 7]
    map_sigma: Annotated[float, Field(ge=0, le=32)]
    threshold_quantile: Annotated[float, Field(gt=0, le=1)]


class Variant(Section):
    model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9/-]*$")]  # a folder below artifacts
    format: str
    precision: Literal["float32", "int8"]
    role: Literal["teacher", "student", "baseline"]
    step: Annotated[str, Field(min_length=1)] | None = None  # of compression

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

    plan: dict[Name, PlanItem] | None = None


class Evaluate(Section):
    aupro_fpr_limit: Annotated[float, Field(gt=0, le=1)]
    resolution: Literal["full", "model"] = "model"


class Benchmark(Section):
    runs: Annotated[int, Field(ge=2)]
    warmup: Count
    threads: Annotated[list[Count], Field(min_length=1)]


class Report(Section):
    title: str
    examples: Annotated[int, Field(ge=1, le=24)]


class Schema(Section):
    seed: Annotated[int, Field(ge=0)]
    threads: Count
    data: Data
    input: Input
    teacher: Teacher
    student: Student
    distill: Distill
    compress: Compress
    compile: Compile
    baselines: dict[Name, Baseline]
    variants: Annotated[dict[Name, Variant], Field(min_length=1)]
    evaluate: Evaluate
    benchmark: Benchmark
    report: Report

    @field_validator("variants")
    @classmethod
    def steps_are_told_apart(cls, variants):
        steps = [variant.step for variant in variants.values() if variant.step]
        if twice := {step for step in steps if steps.count(step) > 1}:
            raise ValueError(f"more than one has the step {', '.join(sorted(twice))}")
        return variants
