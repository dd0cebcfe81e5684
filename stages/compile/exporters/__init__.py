"""One module per format that writes its files: `NODES_ONLY`, whether it takes nothing but a network of nodes, and
`write(build) -> {}`, which returns what model.json gets beside the fields of every format."""

import importlib
from types import ModuleType


def exporter(form: str) -> ModuleType:
    """The module of a format; its name is the format's in edge.inference.formats."""
    return importlib.import_module(f"{__name__}.{form}")
