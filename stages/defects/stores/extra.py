"""What the extra `defects` brings, imported when it is needed."""

import importlib
from typing import Any

from edge.errors import UserError

PACKAGES = {"qdrant_edge": "qdrant-edge-py", "qdrant_client": "qdrant-client"}


def needed(module: str, kind: str) -> Any:
    """The module that the store `kind` needs; UserError where its package is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        why = "" if isinstance(error, ModuleNotFoundError) else f" ({error})"
        package = PACKAGES[module]
        raise UserError(f"the store {kind} needs {package}{why}: pip install {package}, or use brute") from None
