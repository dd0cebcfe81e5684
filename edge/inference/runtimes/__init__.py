"""The table of formats: every module here holds one record, FORMAT, and the class that runs such a file.

What lists formats, packages to install or delegates reads this table: params.yaml's schema, `compile`, inventory
files, `probe`, `enrol`, `doctor` and the command lines. Nothing is registered elsewhere."""

from __future__ import annotations

import importlib
import pkgutil

from edge.inference.formats import Accelerator, Format

FORMATS: dict[str, Format] = {}
for _found in pkgutil.iter_modules(__path__):
    _format = importlib.import_module(f"{__name__}.{_found.name}").FORMAT
    FORMATS[_format.name] = _format

STORED = tuple(name for name, found in FORMATS.items() if not found.stored_as)  # what model.json may name
ACCELERATORS: dict[str, Accelerator] = {name: found.accelerator for name, found in FORMATS.items() if found.accelerator}
DELEGATES = tuple(ACCELERATORS)
LIBRARIES = tuple(dict.fromkeys(library.pip for found in FORMATS.values() for library in found.libraries))

# what an inventory file may name (a package, or an accelerator): the formats of model.json that it runs
RUNS: dict[str, tuple[str, ...]] = {
    name: tuple(
        found.stored_as or found.name
        for found in FORMATS.values()
        if (name == found.name if found.accelerator else name in [library.pip for library in found.libraries])
    )
    for name in (*LIBRARIES, *DELEGATES)
}
