"""Reads YAML files that people write, and says in one line what is wrong in them or in the values that they hold.

PyYAML takes the last of two equal keys without a word, expands aliases of aliases until the memory is full, and raises
whatever Python does (ValueError, RecursionError, KeyError) for numbers of thousands of digits, deep nesting and dates
such as 2024-99-99.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edge.errors import UserError
from stages.common.textfile import read_text, short

T = TypeVar("T", bound=BaseModel)
# choices, far above what a person writes
DEEPEST = 50  # levels of nesting
MOST = 100_000  # keys and values, those behind aliases counted at each place
LONGEST_NUMBER = 100  # characters
LONGEST = 300  # characters; a message does not repeat a longer wrong value
SHOWN = 20  # wrong keys in one message
ONE, SEVERAL = "[one]", "[several]"  # the tags of what a key holds, where it takes both
UNSAID = ("[key]", ONE, SEVERAL)  # parts of a key's place that nobody wrote
MISSING = "run from the folder that holds dvc.yaml"


class Loader(yaml.SafeLoader):
    """The safe loader of PyYAML with a limit on nesting, which it follows by recursion."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.depth == DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"more than {DEEPEST} levels of nesting", problem_mark=self.get_mark())
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file; UserError when it is missing or broken."""
    if not Path(path).exists():
        raise UserError(f"{path}: file not found; {MISSING}")
    return parse(read_text(path, "correct it"), path)


def parse(text: str, path: str | Path) -> Any:
    """The content of YAML; UserError, which begins with `path`, when it is broken."""
    try:
        loader = Loader(text)
        loader.name = str(path)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return loader.construct_document(node)
    except Exception as error:  # YAMLError, or whatever Python raises for a value that it can't make
        why = " ".join(str(error).split())
    raise UserError(f"{path}: not valid YAML: {short(why, LONGEST)}")


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """How many keys and values a node holds, and how deep: aliases counted at each place; MarkedYAMLError for too much,
    a key that is there twice, or a number that is too long."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise _wrong("an alias of what it is in itself", node)
        return found
    known[id(node)] = None
    inside: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        inside = [part for pair in node.value for part in pair]
        names = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                raise _wrong(f"the key {short(key.value)!r} is there twice", key)
            names.add(key.value if isinstance(key, yaml.ScalarNode) else None)
    elif isinstance(node, yaml.SequenceNode):
        inside = node.value
    elif node.tag.endswith((":int", ":float")) and len(node.value) > LONGEST_NUMBER:
        raise _wrong(f"a number of {len(node.value)} characters", node)
    parts = [_measure(part, known) for part in inside]
    size, depth = 1 + sum(size for size, _ in parts), 1 + max((depth for _, depth in parts), default=0)
    if size > MOST or depth > DEEPEST:
        raise _wrong(f"more than {MOST} values or {DEEPEST} levels of nesting", node)
    known[id(node)] = size, depth
    return size, depth


def _wrong(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def check(model: type[T], tree: object, where: str) -> T:
    """`tree` as a `model`; UserError says `where` and names each wrong key, its value and what is allowed."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise UserError("; ".join(f"{where} {_explain(e)}" for e in found[:SHOWN]) + more)


def _explain(error: ErrorDetails) -> str:
    parts = [str(part) for part in error["loc"] if part not in UNSAID]
    key = ".".join(short(part) if part.isprintable() else short(repr(part)) for part in parts) or "the file"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; remove it or correct its name"
    if error["type"] == "missing":
        return f"{key}: missing; add it"
    value = f" = {error['input']!r}"
    return f"{key}{value if len(value) < LONGEST else ''}: {error['msg'].removeprefix('Value error, ')}"
