"""One module per format, which writes its files.

`NODES_ONLY`: whether it takes nothing but a network of nodes. `write(build)` returns fields for model.json beside those
of every format.
"""

import importlib
from types import ModuleType


def exporter(form: str) -> ModuleType:
    """The module of a format; its name is the format's in edge.inference.formats."""
    return importlib.import_module(f"{__name__}.{form}")
