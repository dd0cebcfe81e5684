"""Put the points of a catalogue into a store; again is safe, and keeps what `label` corrected."""

from pathlib import Path

from stages.defects import options
from stages.defects.stores import catalogue
from stages.defects.stores.base import Store
from stages.defects.stores.catalogue import Catalogue
from stages.defects.stores.point import place


def add_arguments(parser) -> None:
    parser.add_argument("catalogue", type=Path, metavar="CATALOGUE", help="a folder that the stage wrote")
    options.add_store(parser)
    parser.add_argument(
        "--rebuild", action="store_true", help="replace all points, and the model, at once when the new ones are there"
    )


def run(arguments) -> None:
    found = catalogue.read(arguments.catalogue)
    options.not_itself(arguments, arguments.catalogue)
    with options.opened(arguments, found.model, any_model=arguments.rebuild) as store:
        if arguments.rebuild:
            with store.rebuilt(found.model) as fresh:
                push(fresh, found, store.corrections())
        else:
            push(store, found, store.corrections())
            store.index()
        store.describe(found.about)
        print(f"{store.name}: {len(found.payloads)} points pushed, {store.count()} there")


def push(store: Store, found: Catalogue, corrections: dict[tuple, str]) -> None:
    """Upserts the points, with the types that `label` gave them where it did."""
    payloads = [
        payload | {"type": corrections[place(payload)], "corrected": True} if place(payload) in corrections else payload
        for payload in found.payloads
    ]
    store.upsert(found.vectors, payloads)
