"""Finds the class of a detector kind: the module of this package that has its name."""

import importlib
import pkgutil
from pathlib import Path

from edge.errors import UserError
from stages.detectors.base import Detector, read_settings

PACKAGE = str(Path(__file__).parent)


def load(folder: str | Path) -> Detector:
    """The detector in an artifact folder, whatever its kind; UserError when it is damaged or of no known kind."""
    settings = read_settings(Path(folder))
    return find(settings.pop("kind"), str(folder)).read(Path(folder), settings)


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
