"""Which stores there are."""

import importlib
import re

from edge.errors import UserError
from stages.common.textfile import short
from stages.defects.stores.base import Store
from stages.defects.stores.point import Model

STORES = {  # kind: (module, class, what it is)
    "brute": ("stages.defects.stores.brute", "Brute", "files of a catalogue, searched by brute force"),
    "embedded": ("stages.defects.stores.embedded", "Embedded", "an embedded Qdrant, without a server"),
    "server": ("stages.defects.stores.server", "Server", "a Qdrant server, at QDRANT_URL"),
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def open_store(kind: str, where: str, name: str, model: Model | None = None) -> Store:
    """The collection `name` in the folder (or at the address) `where`, made where there is none and a model is given;
    UserError when it holds another model's points."""
    if kind not in STORES:
        raise UserError(f"{short(kind)!r}: no store; there are {', '.join(STORES)}")
    if not NAME.fullmatch(name):
        raise UserError(f"{short(name)!r}: no name of a collection: letters, digits, _ and -, 100 at most")
    module, kind_class, _ = STORES[kind]
    return getattr(importlib.import_module(module), kind_class)(where, name, model)
