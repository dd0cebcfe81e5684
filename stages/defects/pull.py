"""Write a store's points, corrected types and all, into a catalogue, which devices read."""

from pathlib import Path

from edge.defects import files
from edge.errors import UserError
from stages.common.textfile import short
from stages.defects import options
from stages.defects.stores.brute import Brute


def add_arguments(parser) -> None:
    parser.add_argument(
        "catalogue", type=Path, metavar="CATALOGUE", help="a catalogue of the same model, whose points are replaced"
    )
    options.add_store(parser)
    options.add_filter(parser)


def run(arguments) -> None:
    chosen = options.filter_of(arguments)
    options.not_itself(arguments, arguments.catalogue)
    folder = arguments.catalogue.absolute()
    with options.opened(arguments) as store:
        if not store.count(chosen):
            raise UserError(f"{store.name}: has no such points; {short(folder)} is as it was")
        if not (folder / files.HEAD).exists():
            raise UserError(f"{short(folder)}: no catalogue; copy the one that was pushed, to keep its other settings")
        with Brute(str(folder.parent), folder.name, store.model) as kept, kept.rebuilt() as fresh:
            for _, vectors, payloads in store.scroll(chosen):
                fresh.upsert(vectors, payloads)
            print(f"{short(folder)}: {fresh.count()} points")
