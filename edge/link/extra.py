"""What `pip install "edge-vision[link]"` brings, imported when it is needed."""

from __future__ import annotations

import importlib
from typing import Any

from edge.errors import UserError


def needed(module: str) -> Any:
    """The module; UserError where its package is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"paho": "paho-mqtt"}.get(module.partition(".")[0], module.partition(".")[0])
        why = "" if isinstance(error, ModuleNotFoundError) else f" ({error})"
        raise UserError(f'sending needs {package}{why}: pip install "edge-vision[link]"') from None
