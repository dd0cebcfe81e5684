"""What the programs of this folder share: their options, and an answer of one line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from edge.errors import UserError
from edge.inference.runtimes import DELEGATES

STARTED_BY = "EDGE_VISION_PARENT"  # says who starts this, who may be gone before it can ask
PARENT = int(os.environ.pop(STARTED_BY, 0)) or os.getppid()


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser with what every program takes: the model folder and how to run it."""
    made = argparse.ArgumentParser(prog=f"python -m {__package__}.{name}", description=doc)
    made.add_argument("model", help="the model folder")
    made.add_argument("--delegate", choices=DELEGATES, help="run the file compiled for this accelerator")
    return made


def answer(find: Callable[[], dict[str, Any]]) -> int:
    """Prints what `find` returns as JSON; one line on stderr and 1 when the model or a picture can't be used."""
    try:
        print(json.dumps(find()))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def end_with_parent() -> None:
    """Ends with the process that started this one: an orphan would disturb a later run."""
    if os.getppid() != PARENT:
        sys.exit(1)
