"""Reads params.yaml: validated as a whole, then narrowed to the keys that dvc.yaml declares for the stage.

dvc.api.params_show finds the same keys, untyped, but takes 0.7 s in every stage to import and to resolve the graph;
this takes 0.02 s.
"""

from pathlib import Path
from types import SimpleNamespace

from pydantic import BaseModel

from edge.errors import UserError
from stages.common.schema import Plan, Schema
from stages.common.yamlfile import check, read_yaml

__all__ = ["check", "declared_keys", "load", "read_plan", "read_yaml", "validate"]

PLAN = Path("hardware_runners/plan.yaml")


def validate(tree, name: str = "params.yaml") -> Schema:
    """The typed params; UserError names each wrong key, its value and what is allowed."""
    return check(Schema, tree, f"{name}:")


def read_plan() -> dict[str, dict[str, str]]:
    """The items of the plan, {name: {device, variant}}; UserError when one is no such pair or has no name for it."""
    plan = check(Plan, read_yaml(PLAN) or {}, f"{PLAN}:").plan or {}
    return {item: entry.model_dump() for item, entry in plan.items()}


def declared_keys(stage: str, dvc_yaml: dict) -> list[str]:
    """The params that dvc.yaml lists for `stage`; those of `compile@student-int8` are the foreach body's, filled in."""
    name, _, key = stage.partition("@")
    try:
        body = dvc_yaml["stages"][name]
        body = body.get("do", body)
        listed = list(body.get("params", []))
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"dvc.yaml: has no stage {name}; restore the file") from None
    return [p.replace("${key}", key) for p in listed if isinstance(p, str)]  # others: another file's


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
    found = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    if found is None and not (isinstance(value, BaseModel) and part in type(value).model_fields):
        raise UserError(f"params.yaml: {dotted}: missing; dvc.yaml declares it for this stage")
    return found
