"""Changes params.yaml, hardware_runners/plan.yaml and dvc.yaml to another tier of the pipeline; then run `dvc repro`.

A tier is a file of experiments/tiers with the keys that differ. What you had set otherwise stays; git checkout brings
back what was there before.
"""

import argparse
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from edge.errors import UserError
from stages.common import atomic, params
from stages.common.yamlfile import read_yaml
from stages.report import dependencies

TIERS = Path(__file__).parent / "tiers"
PARAMS = Path("params.yaml")


def names() -> list[str]:
    return sorted(path.stem for path in TIERS.glob("*.yaml"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help=f"one of {', '.join(names())}")


def run(arguments: argparse.Namespace) -> None:
    """Writes the files, once what they would hold is known to be valid."""
    if arguments.name not in names():
        raise UserError(f"no tier {arguments.name!r}; there are {', '.join(names())}")
    changes = read_yaml(TIERS / f"{arguments.name}.yaml")
    read_yaml(PARAMS), read_yaml(params.PLAN)  # one line for what is no YAML
    changed = {PARAMS: merged(PARAMS, changes["params"]), params.PLAN: merged(params.PLAN, {"plan": changes["plan"]})}
    params.validate(changed[PARAMS])
    writer = _yaml()
    for path, tree in changed.items():
        with atomic.file(path) as temporary, open(temporary, "w") as stream:
            writer.dump(tree, stream)
    dependencies.main([])
    print(f"{arguments.name}: {', '.join(map(str, changed))} and dvc.yaml are changed; now run dvc repro")


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))
    return yaml


def merged(path: Path, changes: dict) -> Any:
    """The content of a YAML file, comments included, with the changes."""
    tree = _yaml().load(path.read_text())
    merge(tree, changes)
    return tree


def merge(tree: Any, changes: dict) -> None:
    """Puts the changes into a tree of mappings, in place: a mapping is merged key by key, null removes a key."""
    for key, value in changes.items():
        if value is None:
            tree.pop(key, None)
        elif isinstance(value, dict) and isinstance(tree.get(key), dict):
            merge(tree[key], value)
            tree[key] = tree[key] or {}  # an empty mapping that still has comments is written where no parser takes it
        else:
            tree[key] = value
