"""The data sources: every module of this package is one, and `data.source` in params.yaml is the name of a module.

A source is one function:

    def load(data, work: Path) -> list[Picture]

`data` is the section `data` of params.yaml; `work` is an empty folder for what the source unpacks or draws, removed
when the stage ends. `load` verifies its files where it has a list of hashes and raises UserError, in one line, for
whatever a user can cause. Decoding, grouping, splitting and writing are the same for all and follow it.

Where pictures may show one part several times without saying so, `NEAR_DUPLICATES = True` makes fetch look for them.

A new source is a new module here: no other code names it, and only `fetch` depends on it.
tests/example_sources/prefixed.py is one to copy.
"""

import importlib
import pkgutil
from pathlib import Path

from edge.errors import UserError
from stages.fetch import watched
from stages.fetch.picture import Picture


def names() -> list[str]:
    """What `data.source` can be."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(data, work: Path) -> list[Picture]:
    """The pictures of `data.source`; UserError when there is no such source. No other source is imported."""
    known = names()
    if data.source not in known:
        raise UserError(f"params.yaml: data.source = {data.source!r}: no such source; choose one of {', '.join(known)}")
    if read := place(data):
        watched.check(read)
    return importlib.import_module(f"{__name__}.{data.source}").load(data, work)


def place(data) -> str | None:
    """Where `data.source` reads: `data.path`, or the source's own place without it (null: it needs none)."""
    return data.path or getattr(importlib.import_module(f"{__name__}.{data.source}"), "DEFAULT", None)


def near_duplicates(data) -> bool:
    """Whether fetch looks for near-duplicates among the pictures of `data.source`."""
    return bool(getattr(importlib.import_module(f"{__name__}.{data.source}"), "NEAR_DUPLICATES", False))
