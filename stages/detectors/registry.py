"""Finds the class of a detector kind: the module of this package that has its name."""

import importlib
import pkgutil
from pathlib import Path

from edge.errors import UserError, reason
from stages.detectors.base import Detector, read_settings

PACKAGE = str(Path(__file__).parent)


def load(folder: str | Path) -> Detector:
    """The detector in an artifact folder, whatever its kind; UserError when it is damaged, of no known kind or as
    another version wrote it."""
    settings = read_settings(Path(folder))
    kind = settings.pop("kind", None)
    found = find(kind, str(folder))
    try:
        return found.read(Path(folder), settings)
    except UserError:
        raise
    except (RuntimeError, LookupError, TypeError, ValueError, OSError) as error:  # whole, as the manifest says
        raise UserError(f"{folder}: no {kind} as this version writes it ({reason(error)}); run dvc repro") from error


def find(kind: str, where: str = "kind") -> type[Detector]:
    """The class of a kind; UserError names those that there are."""
    names = {module.name for module in pkgutil.iter_modules([PACKAGE])}
    if kind in names:
        importlib.import_module(f"{__package__}.{kind}")
    if kind not in Detector.kinds:
        raise UserError(f"{where}: no detector kind {kind!r}; there are {', '.join(all_kinds())}")
    return Detector.kinds[kind]


def all_kinds() -> dict[str, type[Detector]]:
    """Every kind and its class."""
    for module in pkgutil.iter_modules([PACKAGE]):
        importlib.import_module(f"{__package__}.{module.name}")
    return dict(sorted(Detector.kinds.items()))
