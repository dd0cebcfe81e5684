"""Print the neighbours of embeddings, a JSON object a line: query, id, distance and payload, nearest first."""

import json
from pathlib import Path

import numpy as np

from edge.errors import UserError
from stages.defects import options
from stages.defects.stores import catalogue


def add_arguments(parser) -> None:
    parser.add_argument(
        "vectors", nargs="?", type=Path, metavar="CATALOGUE", help="a catalogue, or a safetensors file with its vectors"
    )
    parser.add_argument("--like", nargs="+", default=[], metavar="ID", help="neighbours of points of the store")
    parser.add_argument("-k", type=int, default=5, metavar="K", help="how many neighbours (5)")
    parser.add_argument("--indexed", action="store_true", help="use the index, which is faster and may miss some")
    options.add_store(parser)
    options.add_filter(parser)


def run(arguments) -> None:
    if (arguments.vectors is None) == (not arguments.like):
        raise UserError("give a catalogue, a safetensors file or --like ID: one of them")
    chosen = options.filter_of(arguments)
    if arguments.k < 1:
        raise UserError(f"-k {arguments.k}: must be at least 1")
    if arguments.vectors is not None:
        vectors, model = _read(arguments.vectors)
    else:
        vectors, model = None, None
    with options.opened(arguments, model, create=False) as store:
        known = arguments.like
        own = store.vectors(known) if vectors is None else vectors
        found = store.query(own, arguments.k + (vectors is None), chosen, exact=not arguments.indexed)
    for number, neighbours in enumerate(found):
        itself = known[number] if vectors is None else None
        for one in [one for one in neighbours if one.id != itself][: arguments.k]:
            row = {"query": itself or number + 1, "id": one.id, "distance": round(one.distance, 5), **one.payload}
            print(json.dumps(row))


def _read(path: Path) -> tuple[np.ndarray, catalogue.Model | None]:
    if path.is_dir():
        found = catalogue.read(path)
        return found.vectors, found.model
    return catalogue.read_vectors(path), None
