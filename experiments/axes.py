"""What a sweep goes through: the product of its axes, each `key=value,value` of params.yaml, checked before any run."""

import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from edge.errors import UserError
from experiments.records import as_text, flat
from stages.common import params
from stages.common.yamlfile import parse

SEED = "seed"  # runs that differ in it alone are repetitions of each other
MOST = 10_000  # units; the largest that --most may allow
FLOAT = re.compile(r"[-+]?[0-9.]+e[-+]?[0-9]+", re.IGNORECASE)  # YAML 1.1 takes 1e-3 for text


@dataclass(frozen=True)
class Unit:
    """One point of a sweep: what it changes, and a key that equal settings share, however they were said."""

    changes: tuple[tuple[str, Any], ...]
    key: str

    @property
    def label(self) -> str:
        """What was changed besides the seed."""
        return ", ".join(f"{key} = {as_text(value)}" for key, value in self.changes if key != SEED) or "default"

    @property
    def name(self) -> str:
        """What a person calls it, for messages and file names."""
        return ", ".join(f"{key}={shown(value)}" for key, value in self.changes)

    @property
    def overrides(self) -> list[str]:
        """What `dvc exp run -S` takes."""
        return [f"{key}={hydra(value)}" for key, value in self.changes]


def read(axes: Sequence[str]) -> dict[str, list]:
    """{key: values} of the axes; UserError for what is none, has no value or is there twice."""
    found: dict[str, list] = {}
    for text in axes:
        key, equals, values = text.partition("=")
        key = key.strip()
        if not equals or not key or not values.strip():
            raise UserError(f"{text!r}: no axis; give key=value,value such as student.width=0.25,0.5")
        if key in found:
            raise UserError(f"{key}: is given twice; put all of its values into one axis")
        read_values = parse(f"[{values}]", text)
        if not isinstance(read_values, list) or any(isinstance(value, dict) for value in read_values):
            raise UserError(f"{text!r}: the values must be numbers, names or [lists], with commas between them")
        found[key] = [_number(value) for value in read_values]
    return found


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and FLOAT.fullmatch(value) else value


def units(axes: dict[str, list], tree: dict, most: int) -> list[Unit]:
    """Every combination of the values, the first axis slowest and the seed last; UserError for a key that the params
    `tree` doesn't have, a value that they refuse, a combination that is there twice, or more than `most`."""
    known = flat(tree)
    for key in axes:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.5)
            raise UserError(f"{key}: no key of params.yaml" + (f"; did you mean {near[0]}?" if near else ""))
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > most:
        raise UserError(f"{count} units are more than {most}; take fewer values, or allow them with --most {count}")
    names = sorted(axes, key=lambda key: key == SEED)
    found: dict[str, Unit] = {}
    for point in itertools.product(*(axes[name] for name in names)):
        changes = tuple(zip(names, point, strict=True))
        unit = Unit(changes, settings_key(tree, changes))
        if unit.key in found:
            raise UserError(f"{unit.name}: has the settings of {found[unit.key].name}; give each of them once")
        found[unit.key] = unit
    return list(found.values())


def settings_key(tree: dict, changes: tuple[tuple[str, Any], ...]) -> str:
    """A hash of the params with the changes; UserError where they are refused."""
    new = deepcopy(tree)
    for key, value in changes:
        *parents, leaf = key.split(".")
        section = new
        for part in parents:
            section = section[part]
        section[leaf] = value
    where = ", ".join(f"{key}={shown(value)}" for key, value in changes)
    settings = params.validate(new, where).model_dump(mode="json")
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def shown(value: Any) -> str:
    """A value as people type it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return f"[{', '.join(map(shown, value))}]" if isinstance(value, list) else str(value)


def hydra(value: Any) -> str:
    """A value in the grammar of `dvc exp run -S`, in which nothing of a quoted text is read but its quotes."""
    if isinstance(value, str):
        escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
        escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
        return f"'{escaped}'"
    return f"[{','.join(map(hydra, value))}]" if isinstance(value, list) else shown(value)
