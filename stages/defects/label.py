"""Correct the type of points of a store, whose ids `query` prints; a later push keeps it."""

from edge.errors import UserError
from stages.defects import options


def add_arguments(parser) -> None:
    parser.add_argument("ids", nargs="+", metavar="ID", help="as query prints them")
    parser.add_argument("--as", dest="type", required=True, metavar="TYPE", help="the right type of the defect")
    options.add_store(parser)


def run(arguments) -> None:
    with options.opened(arguments) as store:
        changed = store.label(arguments.ids, arguments.type)
        if not changed:
            raise UserError(f"{store.name}: none of these points is there")
        print(f"{store.name}: {changed} of {len(arguments.ids)} points are {arguments.type} now")
