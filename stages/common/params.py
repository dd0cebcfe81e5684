"""Reads params.yaml: validated as a whole, then narrowed to the keys that dvc.yaml declares for the stage.

dvc.api.params_show finds the same keys, untyped, but takes 0.7 s in every stage to import and to resolve the graph;
this takes 0.02 s.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edge.errors import UserError
from stages.common.schema import Plan, Schema

T = TypeVar("T", bound=BaseModel)
PLAN = Path("hardware_runners/plan.yaml")
LONGEST = 300  # characters; a message does not repeat a longer wrong value


def read_yaml(path: str | Path):
    """The content of a YAML file; UserError when it is missing or broken."""
    try:
        return yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; run from the folder that holds dvc.yaml") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def validate(tree, name: str = "params.yaml") -> Schema:
    """The typed params; UserError names each wrong key, its value and what is allowed."""
    return check(Schema, tree, f"{name}:")


def check(model: type[T], tree, where: str) -> T:
    """`tree` as a `model`; UserError says `where` and names each wrong key, its value and what is allowed."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise UserError("; ".join(f"{where} {_explain(e)}" for e in error.errors())) from None


def _explain(error: ErrorDetails) -> str:
    parts = [str(part) for part in error["loc"] if part != "[key]"]
    key = ".".join(part if part.isprintable() else repr(part) for part in parts) or "the file"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; remove it or correct its name"
    if error["type"] == "missing":
        return f"{key}: missing; add it"
    value = f" = {error['input']!r}"
    return f"{key}{value if len(value) < LONGEST else ''}: {error['msg'].removeprefix('Value error, ')}"


def read_plan() -> dict[str, dict[str, str]]:
    """The items of the plan, {name: {device, variant}}; UserError when one is no such pair or has no name for it."""
    plan = check(Plan, read_yaml(PLAN) or {}, f"{PLAN}:").plan or {}
    return {item: entry.model_dump() for item, entry in plan.items()}


def declared_keys(stage: str, dvc_yaml: dict) -> list[str]:
    """The params that dvc.yaml lists for `stage`; those of `compile@student-int8` are the foreach body's, filled in."""
    name, _, key = stage.partition("@")
    body = dvc_yaml["stages"][name]
    body = body.get("do", body)
    return [p.replace("${key}", key) for p in body.get("params", []) if isinstance(p, str)]  # others: another file's


class StageParams(SimpleNamespace):
    """A view of the params that holds the declared keys and nothing else."""

    def __getattr__(self, name):
        raise AttributeError(f"param '{name}' is not declared in dvc.yaml for this stage")


def load(stage: str) -> StageParams:
    """The validated params of one stage, e.g. `load("distill").student.width`; UserError for what is wrong in the file.

    A key that dvc.yaml doesn't declare for the stage raises AttributeError, since changing it wouldn't rerun the stage.
    """
    schema = validate(read_yaml("params.yaml"))
    if PLAN.is_file():
        read_plan()
    view = StageParams()
    for dotted in declared_keys(stage, read_yaml("dvc.yaml")):
        value, at = schema, view
        *parents, leaf = dotted.split(".")
        for part in parents:
            value = _get(value, part, dotted)
            at.__dict__.setdefault(part, StageParams())
            at = at.__dict__[part]
        at.__dict__[leaf] = _get(value, leaf, dotted)
    return view


def _get(value, part: str, dotted: str):
    found = getattr(value, part, None) if isinstance(value, BaseModel) else value.get(part)
    if found is None and not (isinstance(value, BaseModel) and part in type(value).model_fields):
        raise UserError(f"params.yaml: {dotted}: missing; dvc.yaml declares it for this stage")
    return found
