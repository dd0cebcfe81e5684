"""Print the neighbours of defects, a JSON object a line: query, id, distance and payload, nearest first."""

import json
from pathlib import Path

import numpy as np

from edge.defects import commands as device
from edge.errors import UserError
from stages.defects import options
from stages.defects.stores import catalogue
from stages.defects.stores.point import Model


def add_arguments(parser) -> None:
    parser.add_argument(
        "vectors", nargs="?", type=Path, metavar="CATALOGUE", help="a catalogue, or a safetensors file with its vectors"
    )
    parser.add_argument(
        "--picture", nargs="+", default=[], type=Path, metavar="FILE", help="of pictures, by the model of CATALOGUE"
    )
    parser.add_argument("--like", nargs="+", default=[], metavar="ID", help="neighbours of points of the store")
    parser.add_argument("-k", type=int, default=5, metavar="K", help="how many neighbours (5)")
    parser.add_argument("--indexed", action="store_true", help="use the index, which is faster and may miss some")
    options.add_store(parser)
    options.add_filter(parser)


def run(arguments) -> None:
    if (arguments.vectors is None) == (not arguments.like):
        raise UserError("give a catalogue, a safetensors file or --like ID: one of them")
    if arguments.picture and arguments.like:
        raise UserError("--picture needs a catalogue, whose model embeds it, and no --like")
    chosen = options.filter_of(arguments)
    if arguments.k < 1:
        raise UserError(f"-k {arguments.k}: must be at least 1")
    vectors, model = None, None
    if arguments.picture:
        vectors, model = _seen(arguments.vectors, arguments.picture)
    elif arguments.vectors is not None:
        vectors, model = _read(arguments.vectors)
    with options.opened(arguments, model, create=False) as store:
        known = arguments.like
        own = store.vectors(known) if vectors is None else vectors
        found = store.query(own, arguments.k + (vectors is None), chosen, exact=not arguments.indexed)
    names = [*known, *map(str, arguments.picture)] or range(1, len(found) + 1)
    for name, neighbours in zip(names, found, strict=True):
        for one in [one for one in neighbours if one.id != name][: arguments.k]:
            row = {"query": name, "id": one.id, "distance": round(one.distance, 5), **one.payload}
            print(json.dumps(row))


def _seen(folder: Path, pictures: list[Path]) -> tuple[np.ndarray, Model]:
    """The vectors of what the catalogue's own model takes for anomalous in pictures."""
    known, detector = device.opened(folder)
    vectors = [known.vector(device.looked(detector, path)[0])[0] for path in pictures]
    return np.stack(vectors), Model(known.rules.model, known.rules.dimensions)


def _read(path: Path) -> tuple[np.ndarray, Model | None]:
    if path.is_dir():
        found = catalogue.read(path)
        return found.vectors, found.model
    return catalogue.read_vectors(path), None
