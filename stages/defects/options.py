"""Options that the commands on stores share."""

import os
from pathlib import Path

from edge.errors import UserError
from stages.common.textfile import short
from stages.defects.stores.base import Missing, Store, same_model
from stages.defects.stores.point import Filter, Model, keyword
from stages.defects.stores.table import STORES, open_store

FOLDER, COLLECTION = "artifacts/defect-stores", "defects"


def add_store(parser) -> None:
    listed = ", ".join(f"{kind}: {text}" for kind, (_, _, text) in STORES.items())
    parser.add_argument("--store", choices=STORES, default="brute", help=f"{listed} (brute)")
    parser.add_argument("--at", metavar="WHERE", help=f"folder of the store ({FOLDER}), or the server's address")
    parser.add_argument("--name", default=COLLECTION, help=f"of the collection ({COLLECTION})")


def add_filter(parser) -> None:
    for field in ("type", "product", "line"):
        parser.add_argument(f"--{field}", nargs="+", default=[], metavar=field.upper(), help=f"only of these {field}s")
    parser.add_argument("--since", metavar="TIME", help="not before this time, e.g. 2026-05-01T06:00:00+02:00")
    parser.add_argument("--until", metavar="TIME", help="before this time")


def filter_of(arguments) -> Filter:
    for field in ("type", "product", "line"):
        for value in getattr(arguments, field):
            keyword(value, f"--{field}")
    found = arguments
    return Filter(tuple(found.type), tuple(found.product), tuple(found.line), found.since, found.until)


def opened(arguments, model: Model | None = None, create: bool = True, any_model: bool = False) -> Store:
    """The store that the options name. create: make it for `model` where there is none; any_model: what is there may be
    of another model."""
    where = _where(arguments)
    if any_model:
        try:
            return open_store(arguments.store, where, arguments.name)
        except Missing:
            pass
    elif model is not None and not create:
        store = open_store(arguments.store, where, arguments.name)
        try:
            same_model(store.name, store.model, model)
        except UserError:
            store.close()
            raise
        return store
    return open_store(arguments.store, where, arguments.name, model)


def not_itself(arguments, folder: Path) -> None:
    """UserError where a catalogue would be read and written at once."""
    if arguments.store != "server" and (Path(_where(arguments)) / arguments.name).resolve() == folder.resolve():
        raise UserError(f"{short(folder)}: is the store itself; give another --at or --name")


def _where(arguments) -> str:
    if arguments.store != "server":
        return arguments.at or FOLDER
    if where := arguments.at or os.environ.get("QDRANT_URL"):
        return where
    raise UserError("the store server needs QDRANT_URL, e.g. http://localhost:6333; docs/defect-stores.md says more")
